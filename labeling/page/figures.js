// The figures of the project: what the server has counted, and what was answered here since. It knows no page.
function createFigures(ask, outbox, settings) {
  let data = null, askedAt = -Infinity, generation = 0;
  const left = (kind) => (data ? data[kind].total - data[kind].done : 0);
  const others = (kind) => KINDS.slice(KINDS.indexOf(kind) + 1).concat(KINDS.slice(0, KINDS.indexOf(kind)));

  return {
    get data() { return data; },
    get age() { return performance.now() - askedAt; },
    left,
    // The kind to go to from one: with items left, else with items at all, else the same.
    after: (kind) => others(kind).find((one) => left(one) > 0) ?? others(kind).find((one) => data?.[one].total) ?? kind,
    expire() { askedAt = -Infinity; },
    clear() {
      generation += 1;
      data = null;
    },
    // True when there is something new to show.
    async refresh() {
      const counted = outbox.size ? -1 : outbox.added, asked = generation;
      askedAt = performance.now();
      const fresh = await ask("progress", settings());
      if (!fresh || asked !== generation) return false;
      // With answers on the way the server's figures are older than ours.
      if (!data || counted === outbox.added) data = fresh;
      return true;
    },
    // An answer that was given (change 1) or taken back (-1).
    count(kind, word, change) {
      if (!data) return;
      if (SET_ASIDE.includes(word)) data.skipped += change;
      else data[kind] = { ...data[kind], done: data[kind].done + change, mine: data[kind].mine + change };
    },
  };
}
