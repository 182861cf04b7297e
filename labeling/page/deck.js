// The deck: the card on the table and those that were fetched ahead, for each kind of item; the cards that were
// answered a moment ago; and one that was opened again. It keeps in step with what the server has reserved for this
// tab. A card is known by its key: the same item can come a second time.
const AHEAD = 8;
const REFILL_BELOW = 5;
const HISTORY = 20;
const RENEW_MS = 75000;
const MOST_ASKED = 50;

// ask(route, body) resolves to the answer's data, or null when it failed.
function createDeck(ask, outbox, settings) {
  const kinds = Object.fromEntries(KINDS.map((kind) => [kind, { current: null, ahead: [] }]));
  const answered = new Set(); // keys answered here; a late answer of the server may still list them
  let history = [], reopened = null, fetching = null, renewedAt = 0, generation = 0;

  const current = (kind) => (reopened?.card.kind === kind ? reopened.card : kinds[kind].current);
  const cardsOf = (kind) => [kinds[kind].current, ...kinds[kind].ahead].filter(Boolean);
  const isKnownHere = (key, kind) => answered.has(key) || cardsOf(kind).some((card) => card.key === key);

  // Drop what others took after our reservation had ended (a laptop that slept); only when the list is complete.
  function keepReserved(kind, keys, asked) {
    if (keys.length >= asked) return;
    const reserved = new Set(keys), deck = kinds[kind];
    deck.ahead = deck.ahead.filter((card) => reserved.has(card.key));
    if (deck.current && !reserved.has(deck.current.key) && !answered.has(deck.current.key)) {
      deck.current = deck.ahead.shift() ?? null;
    }
  }

  // The server looks for cards a part at a time: where it found none, there may be more.
  async function fetchMore(kind, first, asked = 1) {
    const started = generation, deck = kinds[kind];
    const onTheWay = outbox.cardsOnTheWay();
    const count = Math.min(50, AHEAD + 1 + onTheWay.size);
    const addedBefore = outbox.size ? -1 : outbox.added, held = cardsOf(kind).map((card) => card.key);
    const data = await ask("next", {
      ...settings(), kind, count, known: [...held, ...onTheWay], previous: settings.previous(),
    });
    if (!data || started !== generation) return;
    settings.tookOver();
    renewedAt = performance.now();
    if (addedBefore === outbox.added) keepReserved(kind, data.keys, count);
    for (const card of data.cards) {
      if (!isKnownHere(card.key, kind) && !onTheWay.has(card.key)) deck.ahead.push(card);
    }
    if (first) deck.ahead.sort((one, other) => (other.key === first) - (one.key === first));
    deck.current ??= deck.ahead.shift() ?? null;
    if (data.more && !deck.current && asked < MOST_ASKED) return fetchMore(kind, first, asked + 1);
  }

  function forget(key) {
    history = history.filter(({ card }) => card.key !== key);
  }

  return {
    current, forget,
    holds: (key) => KINDS.some((kind) => cardsOf(kind).some((card) => card.key === key)),
    get reopened() { return reopened?.card ?? null; },
    // Fetch when the stock is low or the reservation is old; first: key of the card to put on the table.
    refill(kind, { force = false, first = null } = {}) {
      const stale = performance.now() - renewedAt > RENEW_MS;
      if (!force && !stale && kinds[kind].current && kinds[kind].ahead.length >= REFILL_BELOW) return fetching;
      fetching ??= fetchMore(kind, first).finally(() => { fetching = null; });
      return fetching;
    },
    // Put the next card on the table; the answered one is remembered with what was said. Returns the kind to go on with.
    answer(kind, said) {
      const card = current(kind), deck = kinds[kind];
      answered.add(card.key);
      forget(card.key);
      history = [...history, { card, said, at: Date.now() }].slice(-HISTORY);
      if (reopened) return this.close();
      deck.current = deck.ahead.shift() ?? null;
      return kind;
    },
    // What was answered here, the latest last: {card, said, at}.
    history: () => history,
    lastAnswer: () => history.pop() ?? null,
    // Put a card back on the table, before the one that lies there.
    putBack(card) {
      const deck = kinds[card.kind];
      answered.delete(card.key);
      deck.ahead = deck.ahead.filter((other) => other.key !== card.key);
      if (deck.current && deck.current.key !== card.key) deck.ahead.unshift(deck.current);
      deck.current = card;
    },
    // Lay an answered card over the one on the table, until it is answered or closed. from: the kind to return to.
    reopen(card, from) { reopened = { card, from: reopened?.from ?? from }; },
    close() {
      const { from } = reopened;
      reopened = null;
      return from;
    },
    // Forget everything: another project, another annotator, or skipped items to bring back.
    clear() {
      generation += 1;
      fetching = reopened = null;
      history = [];
      answered.clear();
      for (const deck of Object.values(kinds)) Object.assign(deck, { current: null, ahead: [] });
    },
  };
}
