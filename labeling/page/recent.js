// The panel of my last labels: each can be opened again. It does not know where they come from nor what opening does.
// Texts of prompts and people go into `textContent` only.
const SNIPPET_CHARACTERS = 160;

function ageText(seconds) {
  if (seconds < 60) return "just now";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

// onChoose(entry) for an entry of {card, said, age_seconds}.
function createRecent(element, onChoose) {
  const panel = element.querySelector(".label-recent"), list = panel.querySelector("ol"), note = panel.querySelector("p");
  let entries = [];

  function row({ card, said, age_seconds }, index) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.dataset.index = index;
    const text = (card.messages.at(-1)?.content ?? "").replace(/\s+/g, " ").trim().slice(0, SNIPPET_CHARACTERS);
    const extras = [...said.reasons, said.comment, said.edit?.text.slice(0, SNIPPET_CHARACTERS)].filter(Boolean).join(" · ");
    for (const [name, value] of [["verdict", saidText(card, said)], ["age", ageText(age_seconds)], ["prompt", text], ["extras", extras]]) {
      const part = document.createElement("span");
      part.className = `label-recent-${name}`;
      part.textContent = value;
      button.append(part);
    }
    item.append(button);
    return item;
  }

  function move(step) {
    const buttons = [...list.querySelectorAll("button")], from = buttons.indexOf(document.activeElement);
    buttons.at(Math.min(Math.max(from + step, 0), buttons.length - 1))?.focus();
  }

  list.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button) onChoose(entries[button.dataset.index]);
  });
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    move(step);
  });

  return {
    loading() {
      list.replaceChildren();
      note.textContent = "One moment…";
    },
    show(labels) {
      entries = labels;
      list.replaceChildren(...labels.map(row));
      note.textContent = labels.length
        ? "Choose one to look at it again and to change it: arrow keys and Enter, or a click."
        : "You have no labels in this project yet.";
      list.querySelector("button")?.focus();
    },
  };
}
