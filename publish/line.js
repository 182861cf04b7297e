// Shows a sentence as text: it may hold names that people chose.
const paint = () => {
  const line = element.querySelector("p");
  if (!line) return;
  line.textContent = props.value || "";
  line.hidden = !props.value;
};
watch("value", paint);
paint();
