// The controller: keys and buttons in, answers out. It joins the outbox, the deck, the clock and the screen, and is
// the last part of one script that Gradio runs once when the tab is made (`element` and `trigger` come from there).
const page = (window.preferenceStudioLabel ??= {});
page.stop?.(); // a page that Gradio built anew must not leave two handlers behind

const POLL_MS = 1500;
const IDLE_MS = 5000;
const OVERVIEW_MS = 15000;
const TYPING_MS = 600;
const REQUEST_MS = 15000;

let project = null, annotator = "", kind = "pair", overview = null, overviewAt = 0, ready = false, started = 0;
let configureTimer = 0, looking = false, lookedAt = 0, unreachable = false;

async function post(route, body) {
  const answer = await fetch(new URL(`api/label/${route}`, document.baseURI), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    keepalive: true, signal: AbortSignal.timeout?.(REQUEST_MS),
  });
  return { status: answer.status, data: await answer.json().catch(() => null) };
}

// Ask for data; null when the server cannot be reached or refuses, which is said on the page.
async function ask(route, body) {
  try {
    const { status, data } = await post(route, body);
    unreachable = status >= 500;
    if (status >= 200 && status < 300) return data;
    if (data?.error) screen.notice(data.error);
  } catch {
    unreachable = true;
  }
  return null;
}

const session = createSession();
const screen = createScreen(element, trigger, () => page.stop === stop);
const clock = createClock(element);
const pace = createPace();
const outbox = createOutbox(
  post,
  () => screen.saved(outbox?.size ?? 0, outbox?.failing ?? false),
  (sentence) => { screen.notice(sentence); overviewAt = 0; },
);
const settings = Object.assign(
  () => ({ project, annotator, session: session.id }),
  { previous: session.previous, tookOver: session.tookOver },
);
const deck = createDeck(ask, outbox, settings);

const other = () => otherKind(kind);
const left = (name) => (overview ? overview[name].total - overview[name].done : 0);

async function refreshOverview() {
  const counted = outbox.size ? -1 : outbox.added, asked = started;
  overviewAt = performance.now();
  const data = await ask("progress", settings());
  if (!data || asked !== started) return;
  screen.setGuidelines(data.guidelines);
  // With answers on the way the server's figures are older than ours.
  if (!overview || counted === outbox.added) overview = data;
  screen.progress(overview, kind, pace.perMinute());
}

// Show the card on the table, or say why there is none.
function show(word = null) {
  const card = deck.current(kind);
  ready = false;
  screen.kind(kind);
  screen.mark(word);
  if (overview) screen.progress(overview, kind, pace.perMinute());
  session.remember(kind, card?.item_id ?? null);
  if (!card) return sayWhyNone();
  screen.paint(card, () => { ready = true; clock.restart(); });
}

function sayWhyNone() {
  element.dataset.item = "";
  element.dataset.ready = "no";
  const saving = outbox.size > 0 && (outbox.failing || left(kind) > 0);
  const why = whyNoCard({ project, annotator, unreachable, overview, kind, saving });
  screen.say(why, `Label ${amount(left(other()), other())}`);
}

// Fetch until there is a card; called at the start, by the poll and when the deck has run out.
async function look(first = null) {
  if (looking || project === null || !annotator) return show();
  looking = true;
  lookedAt = performance.now();
  const asked = started;
  try {
    await session.known;
    if (!overview || performance.now() - overviewAt > POLL_MS) await refreshOverview();
    if (asked === started) await deck.refill(kind, { force: true, first });
  } finally {
    looking = false;
  }
  if (asked !== started) return look();
  if (!deck.current(kind) || !element.dataset.item) show();
}

function answer(word, from) {
  const card = deck.current(kind);
  if (!card || !ready || screen.panel || !Object.values(KEYS[kind]).includes(word)) return;
  const seconds = clock.seconds();
  outbox.add("record", {
    ...settings(), item: card.item_id, word, shown: card.responses.map((response) => response.id),
    client_id: uniqueId(), active_seconds: Math.round(seconds * 1000) / 1000,
  });
  deck.answer(kind, word);
  count(kind, word, 1);
  if (word !== "skip") pace.add(seconds);
  if (from === "key") screen.flash(word);
  show();
  if (deck.current(kind)) deck.refill(kind)?.then(() => deck.current(kind) || look());
  else look();
}

function count(name, word, change) {
  if (!overview) return;
  if (word === "skip") overview.skipped += change;
  else overview[name] = { ...overview[name], done: overview[name].done + change, mine: overview[name].mine + change };
}

async function undo() {
  if (project === null || !annotator) return;
  let last = deck.lastAnswer();
  const request = { ...settings(), client_id: uniqueId() };
  if (last) outbox.add("undo", { ...request, item: last.card.item_id });
  else if (outbox.size) return screen.notice("Your last answers are still being saved; undo again in a moment.");
  else if (!(last = await ask("undo", request))) {
    return unreachable && screen.notice("Undo needs the connection to the server.");
  }
  kind = last.card.kind;
  deck.putBack(last.card);
  count(kind, last.word, -1);
  show(last.word);
}

async function restore() {
  const asked = started;
  if (!(await ask("restore", { ...settings(), kind, client_id: uniqueId() })) || asked !== started) return;
  deck.clear();
  overviewAt = 0;
  look();
}

function choose(name) {
  if (name === kind) return;
  kind = name;
  show();
  if (!deck.current(kind)) look();
}

function openTab(name) {
  [...document.querySelectorAll('button[role="tab"]')].find((tab) => tab.textContent.trim() === name)?.click();
}

const run = {
  undo, restore,
  help: () => screen.open("help"),
  guidelines: () => screen.open("guidelines"),
  close: () => screen.open(null),
  other: () => choose(other()),
  train: () => openTab("Train"),
  data: () => openTab("Data"),
};

function onKey(event) {
  const meaning = screen.visible ? meaningOf(event, kind) : null;
  if (!meaning || (meaning.action === "close" && !screen.panel)) return;
  const { word, action } = meaning;
  if (screen.panel && action !== "close" && action !== screen.panel) return; // the cards are covered
  event.preventDefault();
  if (word) answer(word, "key");
  else run[action]();
}

function onClick(event) {
  const button = event.target.closest("[data-word], [data-action], [data-kind-choice]");
  if (!button) return;
  if (button.dataset.word) answer(button.dataset.word, "click");
  else if (button.dataset.kindChoice) choose(button.dataset.kindChoice);
  else run[button.dataset.action]();
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
  [project, annotator, overview] = [newProject, name, null];
  deck.clear();
  pace.clear();
  show();
  if (again) await ask("release", { session: session.id });
  if (project === null || !annotator) return;
  const asked = started;
  await refreshOverview();
  if (asked !== started) return;
  const remembered = session.inherited && !again ? session.remembered() : {};
  if (remembered.itemId) kind = remembered.kind;
  else if (left(kind) <= 0 && left(other()) > 0) kind = other();
  look(remembered.itemId);
}

function tick() {
  if (!screen.visible || document.visibilityState !== "visible" || project === null || !annotator) return;
  const pause = ["done", "wait"].includes(element.dataset.state) ? IDLE_MS : 0;
  if (element.dataset.state !== "card") return performance.now() - lookedAt >= pause && look();
  deck.refill(kind)?.then(() => deck.current(kind)?.item_id === Number(element.dataset.item) || show());
  if (performance.now() - overviewAt > OVERVIEW_MS) refreshOverview();
}

const onVisible = new IntersectionObserver((entries) => {
  if (entries.at(-1).isIntersecting && deck.current(kind)) trigger("show"); // a hidden tab may not have painted
});
const poll = setInterval(tick, POLL_MS);
// From the browser's back-forward cache: nothing is reserved any more.
const onReturn = ({ persisted }) => persisted && look();
const onLeave = () => navigator.sendBeacon?.(
  new URL("api/label/release", document.baseURI),
  new Blob([JSON.stringify({ session: session.id })], { type: "application/json" }),
);

function stop() {
  for (const part of [outbox, clock, session]) part.stop();
  clearInterval(poll);
  onVisible.disconnect();
  window.removeEventListener("keydown", onKey);
  window.removeEventListener("pagehide", onLeave);
  window.removeEventListener("pageshow", onReturn);
  document.removeEventListener("visibilitychange", tick);
}

Object.assign(page, { stop, configure, texts: screen.texts, guidelines: screen.guidelines });
element.addEventListener("click", onClick);
window.addEventListener("keydown", onKey);
window.addEventListener("pagehide", onLeave);
window.addEventListener("pageshow", onReturn);
document.addEventListener("visibilitychange", tick);
onVisible.observe(element);
show();
screen.saved(outbox.size, false);
outbox.drain();
if (page.asked) configure(...page.asked);
