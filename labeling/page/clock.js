// Active time: seconds that a card was on a visible screen. A hidden tab or another page of the app does not count.
// It knows nothing of cards.
function createClock(element) {
  let total = 0, since = null, onScreen = true;

  function update() {
    const running = onScreen && document.visibilityState === "visible";
    if (running && since === null) since = performance.now();
    if (!running && since !== null) {
      total += performance.now() - since;
      since = null;
    }
  }

  const observer = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    update();
  });
  observer.observe(element);
  document.addEventListener("visibilitychange", update);
  update();

  return {
    restart() {
      total = 0;
      since = null;
      update();
    },
    seconds: () => (total + (since === null ? 0 : performance.now() - since)) / 1000,
    stop() {
      observer.disconnect();
      document.removeEventListener("visibilitychange", update);
    },
  };
}

// Answers a minute from the active time of the latest ones, so that a pause does not count.
function createPace(window = 20) {
  let times = [];
  return {
    add(seconds) { times = [...times, seconds].slice(-window); },
    perMinute() {
      const sum = times.reduce((one, other) => one + other, 0);
      return times.length < 3 || sum <= 0 ? 0 : (60 * times.length) / sum;
    },
    clear() { times = []; },
  };
}
