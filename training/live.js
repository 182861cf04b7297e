// Paints a run's headline, detail and progress, and how far its scoring of the pairs is.
// Texts of users go through textContent only, never into HTML.
const paint = () => {
  const run = props.value || {};
  const root = element.querySelector(".train-live");
  if (!root) return;
  root.dataset.state = run.state || "none";
  root.querySelector(".train-headline").textContent = run.headline || "";
  root.querySelector(".train-detail").textContent = run.detail || "";
  const scored = root.querySelector(".train-scored");
  scored.textContent = run.scored || "";
  scored.hidden = !run.scored;
  const bar = root.querySelector(".train-bar");
  const known = typeof run.progress === "number";
  bar.hidden = !known;
  const percent = known ? Math.round(100 * run.progress) : 0;
  bar.setAttribute("aria-valuenow", percent);
  bar.firstElementChild.style.width = percent + "%";
};
watch("value", paint);
paint();
