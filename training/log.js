// Shows the end of a log as text, and follows it unless the reader has scrolled up.
const paint = () => {
  const pre = element.querySelector("pre");
  if (!pre) return;
  const follows = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  pre.textContent = props.value || "Nothing yet.";
  if (follows) pre.scrollTop = pre.scrollHeight;
};
watch("value", paint);
paint();
