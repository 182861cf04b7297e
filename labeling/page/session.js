// Who this page is to the server: a unique id for each loaded page, so that two tabs never hold the same item. After
// a reload the page takes over what its former self had reserved, unless another tab that lives has that id: a
// duplicated tab starts with a copy of sessionStorage.
const SESSION_KEY = "preference-studio.label.session";
const CURRENT_KEY = "preference-studio.label.current";
const ANSWER_MS = 80;

function createSession() {
  const id = uniqueId();
  const read = (key) => { try { return sessionStorage.getItem(key); } catch { return null; } };
  const write = (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* one page's memory only */ } };
  const channel = new BroadcastChannel(SESSION_KEY);
  let previous = read(SESSION_KEY), stoppedWaiting = () => {};

  channel.onmessage = ({ data }) => {
    if (data.ask === id) channel.postMessage({ lives: id });
    if (data.lives && data.lives === previous) {
      previous = null;
      stoppedWaiting();
    }
  };
  const inherited = previous !== null;
  const known = !previous ? Promise.resolve() : new Promise((resolve) => {
    stoppedWaiting = resolve;
    channel.postMessage({ ask: previous });
    setTimeout(resolve, ANSWER_MS);
  });
  write(SESSION_KEY, id);

  return {
    id,
    known, // resolves when it is clear whether the former id is free
    inherited,
    previous: () => previous,
    tookOver() { previous = null; },
    remember(kind, key) { write(CURRENT_KEY, JSON.stringify({ kind, key })); },
    remembered() { try { return JSON.parse(read(CURRENT_KEY)) ?? {}; } catch { return {}; } },
    stop: () => channel.close(),
  };
}
