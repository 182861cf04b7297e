// The panel where a better answer is written, starting from one of the responses. It keeps what is written in the
// draft and does not know how an answer is saved. Texts are values of fields only.
const MOST_EDIT_CHARACTERS = 200000;
const MOST_EDIT_BYTES = 480 * 1024; // a request may have 512 KiB

const asInField = (text) => text.replace(/\r\n?/g, "\n");

// onSave({response, text}); onClose().
function createEditor(element, draft, onSave, onClose) {
  const panel = element.querySelector(".label-edit"), field = panel.querySelector("textarea");
  const sources = panel.querySelector(".label-sources"), note = panel.querySelector(".label-edit-note");
  let card = null;

  function choose(response) {
    draft.startFrom(response.id);
    field.value = draft.textOf(response.id) ?? response.text;
    field.scrollTop = 0;
    field.setSelectionRange(0, 0);
    note.textContent = "";
  }

  function source(response, index) {
    const label = document.createElement("label"), radio = document.createElement("input"), name = document.createElement("span");
    Object.assign(radio, { type: "radio", name: "label-source", checked: response.id === draft.editOf });
    radio.addEventListener("change", () => choose(response));
    name.textContent = card.kind === "single" ? "the response" : nameOfCard(card.kind, index);
    label.append(radio, name);
    return label;
  }

  function save() {
    const text = field.value, isSame = card.responses.some((response) => asInField(response.text).trim() === text.trim());
    if (!text.trim()) note.textContent = "The answer is empty.";
    else if (isSame) note.textContent = "Nothing is changed yet.";
    else if (new Blob([JSON.stringify(text)]).size > MOST_EDIT_BYTES) note.textContent = "The answer is too long to be saved.";
    else onSave({ response: draft.editOf, text });
  }

  panel.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const saves = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (!saves && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (saves) save();
    else onClose();
  });
  panel.querySelector("[data-save]").addEventListener("click", save);
  field.maxLength = MOST_EDIT_CHARACTERS;
  field.addEventListener("input", () => { draft.setText(draft.editOf, field.value); note.textContent = ""; });

  return {
    show(shown, first) {
      card = shown;
      const response = card.responses.find(({ id }) => id === (draft.editOf ?? first)) ?? card.responses[0];
      choose(response);
      sources.replaceChildren(sources.querySelector("legend"), ...card.responses.map(source));
      sources.hidden = card.responses.length < 2;
      field.focus();
    },
  };
}
