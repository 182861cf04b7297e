// The screen: all that is seen but the cards' texts, which are ordinary Markdown components that Gradio paints when
// `trigger("show")` asks for it. Text of models and people goes into those components or into `textContent` only.
const NOTICE_MS = 7000;
const SHORT_PAINT_MS = 400;
const RETRIGGER_LIMIT = 20;

const minutesText = (minutes) => {
  if (minutes < 1) return "under a minute left";
  if (minutes < 90) return `about ${Math.round(minutes)} min left`;
  return `about ${Math.round(minutes / 60)} h left`;
};

function createScreen(element, trigger, isCurrent) {
  const find = (selector) => element.querySelector(selector);
  let noticeTimer = 0, painting = 0, texts = cardTexts(null), guidelines = "";

  function write(selector, text) { // the poll says the same again and again: a screen reader should not
    const place = find(selector);
    if (place.textContent !== text) place.textContent = text;
  }

  function say({ state, title, text, actions }, otherText) {
    element.dataset.state = state;
    write(".label-state h2", title);
    write(".label-state p", text);
    for (const button of element.querySelectorAll(".label-state-actions button")) {
      button.hidden = !actions.includes(button.dataset.action);
    }
    write('.label-state-actions [data-action="other"]', otherText);
  }

  // Call `ready` in the frame that shows the new texts. Gradio renders Markdown after the trigger returns.
  function paint(card, ready) {
    const mine = (painting += 1), cards = find(".label-table") ?? element;
    let timer = 0, attempts = 0;
    texts = cardTexts(card);
    element.dataset.state = "card";
    element.dataset.ready = "no";
    const done = () => {
      if (mine !== painting || element.dataset.ready === "yes") return;
      observer.disconnect();
      clearTimeout(timer);
      for (const box of element.querySelectorAll(".label-text")) box.scrollTop = 0;
      const asked = find("#label-conversation");
      if (asked) asked.scrollTop = asked.scrollHeight;
      element.dataset.ready = "yes";
      ready();
    };
    const observer = new MutationObserver(() => requestAnimationFrame(done));
    observer.observe(cards, { childList: true, characterData: true, subtree: true });
    const late = () => { // the same texts again change nothing; a page that is still loading swallows the trigger
      const swallowed = card && !find("#label-a")?.textContent.trim();
      if (mine !== painting || !swallowed || (attempts += 1) > RETRIGGER_LIMIT) return done();
      trigger("show");
      timer = setTimeout(late, SHORT_PAINT_MS);
    };
    timer = setTimeout(late, SHORT_PAINT_MS);
    element.dataset.item = card ? card.item_id : "";
    cards.classList.toggle("has-context", (card?.messages.length ?? 0) > 1);
    trigger("show");
  }

  function mark(word) { // the answer that an undone card had
    for (const button of element.querySelectorAll("[data-word]")) {
      button.classList.toggle("was", button.dataset.word === word);
    }
  }

  function flash(word) {
    for (const button of element.querySelectorAll(`[data-word="${word}"]`)) {
      button.animate?.([{ filter: "brightness(1.35)", transform: "scale(.985)" }, {}], { duration: 160 });
    }
  }

  function kind(name) {
    element.dataset.kind = name;
    for (const button of element.querySelectorAll("[data-kind-choice]")) {
      button.setAttribute("aria-checked", String(button.dataset.kindChoice === name));
    }
  }

  function progress(overview, name, perMinute) {
    const { total, done, mine } = overview[name], left = total - done;
    for (const kindName of ["pair", "single"]) {
      const waiting = overview[kindName].total - overview[kindName].done;
      find(`[data-left="${kindName}"]`).textContent = waiting > 0 ? waiting : "";
    }
    const noun = name === "pair" ? "pairs" : "responses";
    find('[data-figure="done"]').textContent = total ? `${done} of ${total} ${noun} · ${mine} by you` : "";
    const pace = perMinute && left > 0 ? `${Math.round(perMinute)} a minute · ${minutesText(left / perMinute)}` : "";
    find('[data-figure="pace"]').textContent = pace;
    const percent = total ? (100 * done) / total : 0;
    find(".label-bar i").style.transform = `scaleX(${percent / 100})`;
    find(".label-bar").setAttribute("aria-valuenow", Math.round(percent));
  }

  function saved(waiting, failing) {
    element.dataset.waiting = waiting;
    const label = find(".label-saved");
    label.dataset.saved = failing ? "no" : waiting ? "soon" : "yes";
    label.textContent = failing ? `${waiting} waiting to be saved` : "Saved";
  }

  function notice(sentence) {
    const box = find(".label-notice");
    box.textContent = sentence;
    box.hidden = false;
    clearTimeout(noticeTimer);
    noticeTimer = setTimeout(() => { box.hidden = true; }, NOTICE_MS);
  }

  const panels = { help: ".label-help", guidelines: "#label-guidelines" };
  let opener = null;
  function open(name) { // null closes
    const wasOpen = element.dataset.panel;
    const next = wasOpen === name ? null : name;
    if (!wasOpen && next) opener = document.activeElement;
    element.dataset.panel = next ?? "";
    find(".label-help").hidden = next !== "help";
    find(".label-veil").hidden = !next;
    if (next === "guidelines") trigger("guide");
    if (next) find(panels[next])?.focus?.();
    else opener?.focus?.();
  }

  return {
    say, paint, mark, flash, kind, progress, saved, notice, open,
    texts: () => texts,
    guidelines: () => guidelines || "*This project has no guidelines.*",
    setGuidelines(text) { guidelines = text; },
    get panel() { return element.dataset.panel || null; },
    get visible() { return isCurrent() && element.offsetParent !== null; },
  };
}
