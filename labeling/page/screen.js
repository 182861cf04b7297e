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

const isInMore = (node) => Boolean((node.closest ? node : node.parentElement)?.closest(".label-card-more"));

function createScreen(element, trigger, isCurrent) {
  const find = (selector) => element.querySelector(selector);
  let noticeTimer = 0, painting = 0, marked = "", texts = cardTexts(null), more = moreTexts(null), guidelines = "";
  let painted = allTexts(); // what the page is known to show

  function allTexts() {
    return [...texts, ...more].join("\0");
  }

  function write(selector, text) { // the poll says the same again and again: a screen reader should not
    const place = find(selector);
    if (place.textContent !== text) place.textContent = text;
  }

  function say({ state, title, text, actions }, otherText) {
    element.dataset.state = state;
    write(".label-state h2", title);
    write(".label-state p", text);
    for (const button of element.querySelectorAll(".label-state-actions button")) {
      button.hidden = !actions.includes(button.dataset.command);
    }
    write('.label-state-actions [data-command="other"]', otherText);
  }

  // Ask Gradio to write the texts; a ranking has more of them. Returns what of the page will change.
  function writeTexts(card) {
    const parts = new Set(), before = texts.join("\0"), moreBefore = more.join("\0");
    texts = cardTexts(card);
    if (texts.join("\0") !== before) parts.add("show");
    if (card.kind === "ranking") {
      more = moreTexts(card);
      if (more.join("\0") !== moreBefore) parts.add("more");
      trigger("more");
    }
    trigger("show");
    return parts;
  }

  // Call `ready` in the frame that shows the new texts. Gradio renders Markdown after the trigger returns.
  function paint(card, ready) {
    const mine = (painting += 1), cards = find(".label-table") ?? element;
    let timer = 0, attempts = 0, parts = new Set();
    element.dataset.state = "card";
    element.dataset.ready = "no";
    const done = () => {
      if (mine !== painting || element.dataset.ready === "yes") return;
      observer.disconnect();
      clearTimeout(timer);
      painted = allTexts();
      const asked = find("#label-conversation");
      if (asked) asked.scrollTop = asked.scrollHeight;
      element.dataset.ready = "yes";
      ready();
    };
    const observer = new MutationObserver((changes) => {
      for (const { target } of changes) parts.delete(isInMore(target) ? "more" : "show");
      if (!parts.size) requestAnimationFrame(done);
    });
    observer.observe(cards, { childList: true, characterData: true, subtree: true });
    const late = () => { // the same texts again change nothing; a page that is still loading swallows the trigger
      if (mine !== painting || allTexts() === painted || (attempts += 1) > RETRIGGER_LIMIT) return done();
      writeTexts(card);
      timer = setTimeout(late, SHORT_PAINT_MS);
    };
    timer = setTimeout(late, SHORT_PAINT_MS);
    element.dataset.item = card.item_id;
    element.dataset.key = card.key;
    cards.classList.toggle("has-context", card.messages.length > 1);
    parts = writeTexts(card);
  }

  function none() {
    painting += 1;
    element.dataset.item = element.dataset.key = "";
    element.dataset.ready = "no";
  }

  function mark(word = "") { // the answer that a card had which came back
    const name = word === "edited" ? "edit" : word;
    if (marked === name) return;
    marked = name;
    for (const button of element.querySelectorAll(".label-actions [data-command]")) {
      if (!button.dataset.command.startsWith("rank ")) button.classList.toggle("was", button.dataset.command === name);
    }
  }

  function flash(word) {
    for (const button of element.querySelectorAll(`.label-actions [data-command="${word}"]`)) {
      button.animate?.([{ filter: "brightness(1.35)", transform: "scale(.985)" }, {}], { duration: 160 });
    }
  }

  // overview: the server's figures or null. Kinds without items are not shown, nor a choice of one.
  function kind(name, overview) {
    element.dataset.kind = name;
    for (const button of element.querySelectorAll("[data-kind-choice]")) {
      const choice = button.dataset.kindChoice, isEmpty = KINDS.every((one) => !overview?.[one].total);
      button.setAttribute("aria-checked", String(choice === name));
      button.hidden = choice !== name && !overview?.[choice].total && !(isEmpty && choice === "pair");
    }
  }

  function progress(overview, name, perMinute) {
    const { total, done, mine } = overview[name], left = total - done;
    for (const kindName of KINDS) {
      const waiting = overview[kindName].total - overview[kindName].done;
      find(`[data-left="${kindName}"]`).textContent = waiting > 0 ? waiting : "";
    }
    const noun = { pair: "pairs", single: "responses", ranking: "rankings" }[name];
    find('[data-figure="done"]').textContent = total ? `${done} of ${total} ${noun} · ${mine} by you` : "";
    const pace = perMinute && left > 0 ? `${Math.round(perMinute)} a minute · ${minutesText(left / perMinute)}` : "";
    find('[data-figure="pace"]').textContent = pace;
    const percent = total ? (100 * done) / total : 0;
    find(".label-bar i").style.transform = `scaleX(${percent / 100})`;
    find(".label-bar").setAttribute("aria-valuenow", Math.round(percent));
  }

  function changing(sentence) { // null: the card on the table is a new one
    find(".label-changing").hidden = sentence === null;
    write(".label-changing span", sentence ?? "");
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

  return {
    say, paint, none, mark, flash, kind, progress, changing, saved, notice,
    // A hidden tab may not have painted.
    again: () => { trigger("show"); if (element.dataset.kind === "ranking") trigger("more"); },
    texts: () => texts,
    more: () => more,
    guidelines: () => guidelines || "*This project has no guidelines.*",
    setGuidelines(text) { guidelines = text; },
    get visible() { return isCurrent() && element.offsetParent !== null; },
  };
}
