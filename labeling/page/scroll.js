// Scrolling of the responses: together by the same amount, or each by itself. It knows nothing of what they say.
const PAGE_SHARE = 0.85;

function createScroll(element) {
  const cards = () => [...element.querySelectorAll("#label-responses > .label-card")].filter((card) => card.clientHeight);
  const places = new WeakMap(); // card → where it would be, were it long enough, and where it is
  let linked = true;

  const placeOf = (card) => places.get(card) ?? { wanted: card.scrollTop, at: card.scrollTop };

  function move(card, wanted) {
    card.scrollTop = wanted;
    places.set(card, { wanted, at: card.scrollTop });
  }

  // Our own moves come back as events too: they find the card where it was put.
  function onScroll({ target: card }) {
    if (!card.matches?.("#label-responses > .label-card")) return;
    const by = card.scrollTop - placeOf(card).at;
    if (!by) return;
    places.set(card, { wanted: card.scrollTop, at: card.scrollTop });
    if (linked) for (const other of cards()) if (other !== card) move(other, placeOf(other).wanted + by);
  }

  const button = element.querySelector('[data-command="link"]');
  element.addEventListener("scroll", onScroll, { capture: true, passive: true });

  return {
    toggle() {
      linked = !linked;
      button.setAttribute("aria-pressed", String(linked));
      for (const card of cards()) move(card, card.scrollTop);
      return linked;
    },
    // False when there is nothing to scroll: the key is the browser's then.
    page(direction) {
      const shown = cards(), longest = Math.max(0, ...shown.map((card) => card.scrollHeight - card.clientHeight));
      if (!longest) return false;
      for (const card of shown) {
        const wanted = placeOf(card).wanted + direction * card.clientHeight * PAGE_SHARE;
        move(card, Math.min(Math.max(wanted, 0), longest));
      }
      return true;
    },
    top() { for (const card of cards()) move(card, 0); },
    stop() { element.removeEventListener("scroll", onScroll, { capture: true }); },
  };
}
