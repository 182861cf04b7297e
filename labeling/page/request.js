// Requests to the server: each is one POST of JSON. It knows how routes answer, not what they do.
const REQUEST_MS = 15000;
// Such a request outlives its page, but browsers refuse more than 64 KiB of them at a time.
const OUTLIVING = ["record", "undo", "release"];
const MOST_OUTLIVING_CHARACTERS = 16000;

async function post(route, body) {
  const content = JSON.stringify(body);
  const answer = await fetch(new URL(`api/label/${route}`, document.baseURI), {
    method: "POST", headers: { "Content-Type": "application/json" }, body: content,
    keepalive: OUTLIVING.includes(route) && content.length < MOST_OUTLIVING_CHARACTERS,
    signal: AbortSignal.timeout?.(REQUEST_MS),
  });
  return { status: answer.status, data: await answer.json().catch(() => null) };
}

// onRefused(sentence) when the server says no in words.
function createServer(onRefused) {
  let unreachable = false;
  return {
    get unreachable() { return unreachable; },
    // Ask for data; null when the server cannot be reached or refuses.
    async ask(route, body) {
      try {
        const { status, data } = await post(route, body);
        unreachable = status >= 500;
        if (status >= 200 && status < 300) return data;
        if (data?.error) onRefused(data.error);
      } catch {
        unreachable = true;
      }
      return null;
    },
  };
}
