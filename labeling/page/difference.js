// The difference view: both responses of a pair as plain text, with what is in one of them only marked. Model text
// goes into `textContent` only.
function createDifference(element) {
  let on = false;

  // Gradio owns the card; our place in it is made anew when it is gone.
  function placeIn(side) {
    const card = element.querySelector(`.label-card-${side}`);
    const known = card?.querySelector(".label-difference");
    if (known || !card) return known;
    const made = document.createElement("div");
    made.className = "label-difference";
    made.dir = "auto";
    card.append(made);
    return made;
  }

  function write(place, runs, name) {
    place?.replaceChildren(...runs.map(({ text, same }) => {
      const part = document.createElement(same ? "span" : name);
      part.textContent = text;
      return part;
    }));
  }

  return {
    get on() { return on; },
    toggle() { on = !on; },
    render(card) {
      const shows = on && card?.kind === "pair";
      element.classList.toggle("shows-difference", shows);
      element.querySelector('[data-command="difference"]').setAttribute("aria-pressed", String(on));
      if (!shows) return;
      const [a, b] = differences(...card.responses.map((response) => response.text));
      write(placeIn("a"), a, "del");
      write(placeIn("b"), b, "ins");
    },
  };
}
