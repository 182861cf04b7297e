// The deck: the card on the table and those that were fetched ahead, for each kind of item, and the cards that were
// answered a moment ago. It keeps in step with what the server has reserved for this tab.
const AHEAD = 8;
const REFILL_BELOW = 5;
const HISTORY = 20;
const RENEW_MS = 75000;

// ask(route, body) resolves to the answer's data, or null when it failed.
function createDeck(ask, outbox, settings) {
  const kinds = { pair: { current: null, ahead: [] }, single: { current: null, ahead: [] } };
  const answered = new Set(); // ids answered here; a late answer of the server may still list them
  let history = [], fetching = null, renewedAt = 0, generation = 0;

  const cardsOf = (kind) => [kinds[kind].current, ...kinds[kind].ahead].filter(Boolean);
  const isKnownHere = (id, kind) => answered.has(id) || cardsOf(kind).some((card) => card.item_id === id);

  // Drop what others took after our reservation had ended (a laptop that slept); only when the list is complete.
  function keepReserved(kind, itemIds, asked) {
    if (itemIds.length >= asked) return;
    const reserved = new Set(itemIds), deck = kinds[kind];
    deck.ahead = deck.ahead.filter((card) => reserved.has(card.item_id));
    if (deck.current && !reserved.has(deck.current.item_id) && !answered.has(deck.current.item_id)) {
      deck.current = deck.ahead.shift() ?? null;
    }
  }

  async function fetchMore(kind, first) {
    const started = generation, deck = kinds[kind];
    const onTheWay = outbox.itemsOnTheWay();
    const count = Math.min(50, AHEAD + 1 + onTheWay.size);
    const addedBefore = outbox.size ? -1 : outbox.added, held = cardsOf(kind).map((card) => card.item_id);
    const data = await ask("next", {
      ...settings(), kind, count, known: [...held, ...onTheWay], previous: settings.previous(),
    });
    if (!data || started !== generation) return;
    settings.tookOver();
    renewedAt = performance.now();
    if (addedBefore === outbox.added) keepReserved(kind, data.item_ids, count);
    for (const card of data.cards) {
      if (!isKnownHere(card.item_id, kind) && !onTheWay.has(card.item_id)) deck.ahead.push(card);
    }
    if (first) deck.ahead.sort((one, other) => (other.item_id === first) - (one.item_id === first));
    deck.current ??= deck.ahead.shift() ?? null;
  }

  return {
    current: (kind) => kinds[kind].current,
    // Fetch when the stock is low or the reservation is old; first: id of the card to put on the table.
    refill(kind, { force = false, first = null } = {}) {
      const stale = performance.now() - renewedAt > RENEW_MS;
      if (!force && !stale && kinds[kind].current && kinds[kind].ahead.length >= REFILL_BELOW) return fetching;
      fetching ??= fetchMore(kind, first).finally(() => { fetching = null; });
      return fetching;
    },
    // Put the next card on the table; the answered one is remembered with its word.
    answer(kind, word) {
      const deck = kinds[kind];
      answered.add(deck.current.item_id);
      history = [...history, { card: deck.current, word }].slice(-HISTORY);
      deck.current = deck.ahead.shift() ?? null;
    },
    lastAnswer: () => history.pop() ?? null,
    // Put a card back on the table, before the one that lies there.
    putBack(card) {
      const deck = kinds[card.kind];
      answered.delete(card.item_id);
      deck.ahead = deck.ahead.filter((other) => other.item_id !== card.item_id);
      if (deck.current && deck.current.item_id !== card.item_id) deck.ahead.unshift(deck.current);
      deck.current = card;
    },
    // Forget everything: another project, another annotator, or skipped items to bring back.
    clear() {
      generation += 1;
      fetching = null;
      history = [];
      answered.clear();
      for (const deck of Object.values(kinds)) Object.assign(deck, { current: null, ahead: [] });
    },
  };
}
