// Which tab is open, kept in the address (?tab=chat): a reload comes back to it, and a link can open it. The first tab
// has the plain address. No entry of the history is made: Back leaves the page, as it does on one without tabs.
window.studioTab = (() => {
  const LATEST_MS = 15000; // by then the page is shown, whatever became of the tab that was asked for
  const root = document.documentElement;
  const asked = () => new URLSearchParams(location.search).get("tab");
  const show = () => root.classList.remove("studio-opening");

  if (asked()) {
    root.classList.add("studio-opening"); // the first tab must not be seen, or take a key, before the asked one is open
    setTimeout(show, LATEST_MS);
  }
  return {
    // Returns Gradio's update that opens the asked tab, if it is one of the others than the first; nothing else.
    open(others) {
      if (others.includes(asked())) return { __type__: "update", selected: asked() };
      show();
    },
    // Keeps the tab that was opened; null: the first.
    keep(id) {
      const address = new URL(location.href);
      if (id) address.searchParams.set("tab", id);
      else address.searchParams.delete("tab");
      history.replaceState(history.state, "", address);
      if (id) show();
    },
  };
})();
