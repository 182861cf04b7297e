// Places on the cards of a ranking: which response was picked first, second … It shows a draft and decides when
// the ranking is complete; it does not know what is done with it.
function createRanking(element, draft) {
  const cards = () => element.querySelectorAll("#label-responses > .label-card");
  let isEmpty = false;
  const buttons = [...element.querySelectorAll('[data-command^="rank "]')];

  // Tiers of what is picked; what is left comes last together. Null while nothing is picked.
  function tiers(card) {
    if (!draft.picks.length) return null;
    const rest = card.responses.map(({ id }) => id).filter((id) => !draft.picks.includes(id));
    return [...draft.picks.map((id) => [id]), ...(rest.length ? [rest] : [])];
  }

  return {
    tiers,
    // Pick the response at a place on the screen, 1 is the first. True when only one is left: it is last by itself.
    pick(card, number) {
      const response = card.responses[number - 1];
      if (response) draft.pick(response.id);
      return draft.picks.length >= card.responses.length - 1;
    },
    render(card) {
      if (isEmpty && card?.kind !== "ranking") return; // pairs should not wait for it
      isEmpty = card?.kind !== "ranking";
      const old = draft.old?.ranking, isOld = !draft.picks.length && Boolean(old);
      const places = card?.kind !== "ranking" ? new Map() : placesOf(isOld ? old : draft.picks.map((id) => [id]));
      element.dataset.count = card?.responses.length ?? 0;
      [...cards()].forEach((place, index) => {
        const rank = places.get(card?.responses[index]?.id), text = rank ? ordinal(rank) : "";
        place.dataset.rank = text;
        place.classList.toggle("was", isOld);
        if (!buttons[index]) return;
        buttons[index].hidden = !(card?.kind === "ranking" && card.responses[index]);
        buttons[index].querySelector("b").textContent = text;
        buttons[index].setAttribute("aria-pressed", String(Boolean(text)));
        buttons[index].classList.toggle("was", isOld);
      });
    },
  };
}
