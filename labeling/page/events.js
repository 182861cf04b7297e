// The events of the page: keys, clicks, the poll, another project, a page that is left. The last part of the script;
// it starts everything and, when Gradio builds the page anew, stops it.
function run(id, from) {
  const [name, detail] = id.split(" ");
  return WORDS[kind].includes(name) ? answer(name, { strength: detail }, from) : actions[name]?.(detail);
}

function onKey(event) {
  if (!screen.visible) return;
  if (panels.current === "help" && keyPanel.take(event)) return event.preventDefault();
  panels.keepFocus(event);
  const id = keys.commandOf(event, kind);
  if (!id || (id === "close" && !panels.current && !extras.commenting && !deck.reopened)) return;
  if (panels.current && id !== "close" && id !== panels.current) return; // the cards are covered
  if (run(id, "key") !== false) event.preventDefault();
}

function onClick({ target }) {
  const button = target.closest("[data-command], [data-kind-choice]");
  if (!button) return;
  if (button.dataset.kindChoice) choose(button.dataset.kindChoice);
  else run(button.dataset.command, "click");
}

// A button that was pressed with the mouse does not take the focus from the keys: Enter would press it again.
function onPress(event) {
  if (!event.target.closest("button") || event.target.closest(".label-panel")) return;
  event.preventDefault();
  if (!element.contains(document.activeElement)) document.activeElement?.blur();
}

// Another project or annotator: give everything back and begin anew.
function configure(newProject, newAnnotator) {
  clearTimeout(configureTimer);
  const name = (newAnnotator ?? "").trim();
  if (started && newProject === project && name === annotator) return;
  if (started && newProject === project && document.activeElement?.matches("input, textarea")) {
    configureTimer = setTimeout(() => begin(newProject, name), TYPING_MS); // the name is being typed
    return;
  }
  const field = document.activeElement;
  if (started && newProject !== project && field?.matches("input")) field.blur(); // else the keys go there
  begin(newProject, name);
}

async function begin(newProject, name) {
  const again = project !== null && annotator;
  started += 1;
  [project, annotator] = [newProject, name];
  for (const part of [figures, deck, draft, ...Object.values(paces)]) part.clear();
  panels.close();
  show();
  if (again) await routes.ask("release", { session: session.id });
  if (project === null || !annotator) return;
  const asked = started;
  await refreshFigures();
  if (asked !== started) return;
  const remembered = session.inherited && !again ? session.remembered() : {};
  if (remembered.key && KINDS.includes(remembered.kind)) kind = remembered.kind;
  else if (figures.left(kind) <= 0 && figures.left(figures.after(kind)) > 0) kind = figures.after(kind);
  look(remembered.key);
}

function tick() {
  if (!screen.visible || document.visibilityState !== "visible" || project === null || !annotator) return;
  const pause = ["done", "wait"].includes(element.dataset.state) ? IDLE_MS : 0;
  if (element.dataset.state !== "card") return performance.now() - lookedAt >= pause && look();
  deck.refill(kind)?.then(() => deck.current(kind)?.key === element.dataset.key || show());
  if (figures.age > OVERVIEW_MS) refreshFigures();
}

const onVisible = new IntersectionObserver((entries) => {
  if (entries.at(-1).isIntersecting && deck.current(kind)) screen.again();
});
const poll = setInterval(tick, POLL_MS);
// From the browser's back-forward cache: nothing is reserved any more.
const onReturn = ({ persisted }) => persisted && look();
const onLeave = () => navigator.sendBeacon?.(
  new URL("api/label/release", document.baseURI),
  new Blob([JSON.stringify({ session: session.id })], { type: "application/json" }),
);

function stop() {
  for (const part of [outbox, clock, session, scroll]) part.stop();
  clearInterval(poll);
  onVisible.disconnect();
  window.removeEventListener("keydown", onKey);
  window.removeEventListener("pagehide", onLeave);
  window.removeEventListener("pageshow", onReturn);
  document.removeEventListener("visibilitychange", tick);
}

Object.assign(page, { stop, configure, texts: screen.texts, more: screen.more, guidelines: screen.guidelines });
element.addEventListener("click", onClick);
element.addEventListener("mousedown", onPress);
window.addEventListener("keydown", onKey);
window.addEventListener("pagehide", onLeave);
window.addEventListener("pageshow", onReturn);
document.addEventListener("visibilitychange", tick);
onVisible.observe(element);
extras.listen(showDraft, actions.comment);
keyPanel.hints();
show();
screen.saved(outbox.size, false);
outbox.drain();
if (page.asked) configure(...page.asked);
