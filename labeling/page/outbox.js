// The outbox: what an annotator said and the server has not confirmed yet. It lives in localStorage, one key an
// entry, so that a reload, a lost network or a closed browser loses nothing. Entries are sent one by one, oldest
// first, again and again until the server has answered; each has a unique id, so that a second arrival is harmless.
// Any page of the same browser may send what another left behind.
const OUTBOX_PREFIX = "preference-studio.label.outbox.";
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
const ORPHAN_MS = 15000;

const uniqueId = () => {
  // crypto.randomUUID exists only on https and localhost; a page on the local network has getRandomValues.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

// post(route, body) resolves to {status, data} or rejects. onChange() after every change of `size` or `failing`.
// onRefused(sentence, entry) when the server will never take an entry.
function createOutbox(post, onChange, onRefused) {
  const entries = new Map();
  let lastAt = 0, added = 0, sending = false, failures = 0, timer = 0, stopped = false;

  const keyOf = (entry) => OUTBOX_PREFIX + entry.body.client_id;
  const sorted = () => [...entries.values()].sort((one, other) => one.at - other.at);

  // Take over what this browser still keeps: at the start all of it, later what another page seems to have left.
  function adopt(olderThanMs) {
    try {
      for (let index = 0; index < localStorage.length; index += 1) {
        const key = localStorage.key(index);
        if (!key.startsWith(OUTBOX_PREFIX) || entries.has(key)) continue;
        const entry = JSON.parse(localStorage.getItem(key));
        if (Date.now() - entry.at >= olderThanMs || entry.at > Date.now()) entries.set(key, { ...entry, kept: true });
      }
    } catch (error) {
      console.warn("Label outbox: the browser's storage cannot be read.", error);
    }
    for (const entry of entries.values()) lastAt = Math.max(lastAt, entry.at);
  }

  // card: the key of the card that the entry is about.
  function add(route, body, card) {
    const entry = { route, body, card, at: Math.max(Date.now(), lastAt + 1) };
    lastAt = entry.at;
    added += 1;
    try {
      localStorage.setItem(keyOf(entry), JSON.stringify(entry));
      entry.kept = true;
    } catch {
      entry.kept = false; // private mode or a full quota: it lives as long as the page
    }
    entries.set(keyOf(entry), entry);
    onChange();
    drain();
  }

  function drop(entry) {
    entries.delete(keyOf(entry));
    try {
      localStorage.removeItem(keyOf(entry));
    } catch { /* it was never kept */ }
  }

  const sentElsewhere = (entry) => {
    try {
      return entry.kept && localStorage.getItem(keyOf(entry)) === null;
    } catch {
      return false;
    }
  };

  // Send one entry; true when it is settled. Only a refusal in the server's own words is final.
  async function send(entry) {
    let answer;
    try {
      answer = await post(entry.route, entry.body);
    } catch {
      return false;
    }
    const { status, data } = answer;
    if (status >= 200 && status < 300) return true;
    const final = status >= 400 && status < 500 && ![401, 403, 408, 425, 429].includes(status);
    if (!final || typeof data?.error !== "string") return false;
    drop(entry);
    onRefused(data.error, entry);
    return true;
  }

  async function drain() {
    if (sending || stopped) return;
    sending = true;
    clearTimeout(timer);
    while (entries.size && !stopped) {
      const entry = sorted()[0];
      if (!sentElsewhere(entry) && !(await send(entry))) {
        timer = setTimeout(drain, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
        failures += 1;
        break;
      }
      drop(entry);
      failures = 0;
      onChange();
    }
    sending = false;
    onChange();
  }

  const online = () => drain();
  const sweep = setInterval(() => {
    adopt(ORPHAN_MS);
    if (entries.size && !failures) drain();
  }, ORPHAN_MS);
  window.addEventListener("online", online);
  adopt(0);

  return {
    add,
    drain,
    get size() { return entries.size; },
    get added() { return added; },
    get failing() { return failures > 0; },
    // Keys of cards that are labelled here and not there yet: the server would hand them out again.
    cardsOnTheWay() {
      const cards = new Set();
      for (const { route, body, card = String(body.item) } of sorted()) {
        if (route === "record") cards.add(card);
        else cards.delete(card);
      }
      return cards;
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      clearInterval(sweep);
      window.removeEventListener("online", online);
    },
  };
}
