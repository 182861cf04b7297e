// The controller: keys and buttons in, answers out. It joins the outbox, the deck, the draft, the clock and the
// screen, and is the last part of one script that Gradio runs once when the tab is made (`element` and `trigger` come
// from there).
const page = (window.preferenceStudioLabel ??= {});
page.stop?.(); // a page that Gradio built anew must not leave two handlers behind

const POLL_MS = 1500;
const IDLE_MS = 5000;
const OVERVIEW_MS = 15000;
const TYPING_MS = 600;

let project = null, annotator = "", kind = "pair", ready = false, started = 0;
let configureTimer = 0, looking = false, lookedAt = 0;

const session = createSession();
const screen = createScreen(element, trigger, () => page.stop === stop);
const clock = createClock(element);
const paces = Object.fromEntries(KINDS.map((name) => [name, createPace()]));
const routes = createServer(screen.notice);
const outbox = createOutbox(
  post,
  () => screen.saved(outbox?.size ?? 0, outbox?.failing ?? false),
  (sentence, { card }) => { screen.notice(sentence); deck.forget(card); figures.expire(); },
);
const settings = Object.assign(
  () => ({ project, annotator, session: session.id }),
  { previous: session.previous, tookOver: session.tookOver },
);
const deck = createDeck(routes.ask, outbox, settings);
const figures = createFigures(routes.ask, outbox, settings);
const keys = createKeys();
const keyPanel = createKeyPanel(element, keys);
const panels = createPanels(element);
const draft = createDraft();
const extras = createExtras(element, draft, keyPanel.hint);
const ranking = createRanking(element, draft);
const difference = createDifference(element);
const scroll = createScroll(element);
const editor = createEditor(element, draft, saveEdit, panels.close);
const recent = createRecent(element, reopen);

const cardOnTable = () => (ready && !panels.current ? deck.current(kind) : null);
const showProgress = () => figures.data && screen.progress(figures.data, kind, paces[kind].perMinute());

async function refreshFigures() {
  if (!(await figures.refresh())) return;
  screen.setGuidelines(figures.data.guidelines);
  extras.setReasons(figures.data.reasons);
  extras.render(kind);
  screen.kind(kind, figures.data);
  showProgress();
}

// Show the card on the table, or say why there is none.
function show() {
  const card = deck.current(kind), isOther = element.dataset.key !== card?.key;
  ready = false;
  if (isOther && panels.current === "edit") {
    panels.close();
    screen.notice("The item that you were editing is no longer here; the text was not saved.");
  }
  if (isOther) extras.openComment(false);
  draft.begin(card?.key ?? null);
  screen.kind(kind, figures.data);
  screen.mark(draft.old?.word);
  screen.changing(deck.reopened ? `You said: ${saidText(card, draft.old)}` : null);
  showProgress();
  showDraft();
  difference.render(card);
  if (!card) return sayWhyNone();
  if (!deck.reopened) session.remember(kind, card.key);
  screen.paint(card, () => { ready = true; scroll.top(); clock.restart(); });
}

function showDraft() {
  extras.render(kind);
  ranking.render(deck.current(kind));
}

function sayWhyNone() {
  const saving = outbox.size > 0 && (outbox.failing || figures.left(kind) > 0), other = figures.after(kind);
  const { unreachable } = routes;
  screen.none();
  const why = whyNoCard({ project, annotator, unreachable, overview: figures.data, kind, other, saving });
  screen.say(why, `Label ${amount(figures.left(other), other)}`);
}

// Fetch until there is a card; called at the start, by the poll and when the deck has run out.
async function look(first = null) {
  if (looking || project === null || !annotator) return show();
  looking = true;
  lookedAt = performance.now();
  const asked = started;
  try {
    await session.known;
    if (!figures.data || figures.age > POLL_MS) await refreshFigures();
    if (asked === started) await deck.refill(kind, { force: true, first });
  } finally {
    looking = false;
  }
  if (asked !== started) return look();
  if (!deck.current(kind) || !element.dataset.key) show();
}

// how: {strength, ranking, edit}, what goes with the word; from: "key" when it was a key.
function answer(word, how = {}, from = "") {
  const card = cardOnTable();
  if (!card || !WORDS[kind].includes(word)) return;
  const seconds = clock.seconds(), said = draft.said(word, how), isChange = Boolean(deck.reopened);
  const given = Object.entries(said).filter(([, value]) => value?.length || (value && !Array.isArray(value)));
  outbox.add("record", {
    ...settings(), item: card.item_id, ticket: card.ticket, shown: card.responses.map((response) => response.id),
    client_id: uniqueId(), active_seconds: Math.round(seconds * 1000) / 1000, ...Object.fromEntries(given),
  }, card.key);
  if (isChange) figures.count(kind, draft.old.word, -1);
  figures.count(kind, word, 1);
  if (!isChange && !SET_ASIDE.includes(word)) paces[kind].add(seconds);
  draft.forget(card.key);
  kind = deck.answer(kind, said);
  if (from === "key") screen.flash(word);
  show();
  if (deck.current(kind)) deck.refill(kind)?.then(() => deck.current(kind) || look());
  else look();
}

async function undo() {
  if (project === null || !annotator || panels.current) return;
  if (draft.unpick() !== null) return showDraft();
  if (deck.reopened) return keep();
  let last = deck.lastAnswer();
  const request = { ...settings(), client_id: uniqueId() };
  if (last) {
    const { item_id: item, key } = last.card;
    outbox.add("undo", { ...request, item, repeat: key.endsWith("r") }, key);
  } else if (outbox.size) {
    return screen.notice("Your last answers are still being saved; undo again in a moment.");
  } else if (!(last = await routes.ask("undo", request))) {
    return routes.unreachable && screen.notice("Undo needs the connection to the server.");
  }
  const { card, said } = last;
  kind = card.kind;
  deck.putBack(card);
  draft.recall(card.key, said);
  figures.count(kind, said.word, -1);
  show();
}

// Open one of my last labels again: its card lies over the one on the table until it is answered or closed.
function reopen({ card, said }) {
  panels.close();
  if (deck.reopened) draft.forget(deck.reopened.key);
  deck.reopen(card, kind);
  draft.recall(card.key, said);
  kind = card.kind;
  show();
}

function keep() {
  if (!deck.reopened) return;
  draft.forget(deck.reopened.key);
  kind = deck.close();
  show();
}

async function showRecent() {
  if (panels.current) return panels.close();
  if (project === null || !annotator) return;
  panels.open("recent");
  recent.loading();
  const data = await routes.ask("recent", settings()), asked = data?.labels ?? [];
  if (panels.current !== "recent") return;
  if (data && !outbox.size) return recent.show(asked);
  // The server does not have everything yet: what was answered here goes before what it knows.
  const here = deck.history().map((entry) => ({ ...entry, age_seconds: (Date.now() - entry.at) / 1000 })).reverse();
  const isHere = (key) => deck.holds(key) || here.some((entry) => entry.card.key === key);
  recent.show([...here, ...asked.filter(({ card }) => !isHere(card.key))].slice(0, HISTORY));
}

function saveEdit(edit) {
  panels.close();
  answer("edited", { edit });
}

function rank(number) {
  const card = cardOnTable();
  if (!card) return;
  if (ranking.pick(card, Number(number))) return answer("ranked", { ranking: ranking.tiers(card) });
  showDraft();
}

function rest() {
  const card = cardOnTable(), tiers = card && (ranking.tiers(card) ?? draft.old?.ranking);
  if (tiers) answer("ranked", { ranking: tiers });
}

async function restore() {
  const asked = started;
  if (!(await routes.ask("restore", { ...settings(), kind, client_id: uniqueId() })) || asked !== started) return;
  deck.clear();
  figures.expire();
  look();
}

function choose(name) {
  if (deck.reopened) keep();
  if (name === kind) return;
  kind = name;
  show();
  if (!deck.current(kind)) look();
}

function openTab(name) {
  [...document.querySelectorAll('button[role="tab"]')].find((tab) => tab.textContent.trim() === name)?.click();
}

const actions = {
  undo, keep, restore, rest, rank,
  recent: showRecent,
  reason(number) {
    const reason = extras.reason(Number(number));
    if (reason && cardOnTable()) { draft.toggleReason(reason); showDraft(); }
  },
  slightly() { if (cardOnTable()) { draft.toggleStrength("slightly"); showDraft(); } },
  clearly() { if (cardOnTable()) { draft.toggleStrength("clearly"); showDraft(); } },
  comment() { if (cardOnTable()) { extras.openComment(!extras.commenting); showDraft(); } },
  edit() {
    const card = cardOnTable();
    if (!card) return;
    panels.open("edit");
    editor.show(card, card.responses[0].id);
  },
  difference() { difference.toggle(); difference.render(deck.current(kind)); scroll.top(); },
  link: scroll.toggle,
  page: (direction) => scroll.page(direction === "down" ? 1 : -1),
  help() { keyPanel.show(kind); panels.toggle("help"); },
  guidelines() { trigger("guide"); panels.toggle("guidelines"); },
  close() {
    if (panels.current) panels.close();
    else if (extras.commenting) actions.comment();
    else keep();
  },
  other: () => choose(figures.after(kind)),
  train: () => openTab("Train"),
  arena: () => openTab("Arena"),
  data: () => openTab("Data"),
};
