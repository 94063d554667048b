// Chromium keeps the size of a frame's first layout, to tell how high its content is. If that came
// before the frame knew its own size, no height is taken any more: start over when it is known.
if (!(innerWidth && innerHeight) && CSS.supports("frame-sizing", "content-height")) {
  // No event comes to a frame out of view.
  const waiting = setInterval(() => {
    if (!(innerWidth && innerHeight)) return;
    clearInterval(waiting);
    location.reload();
  }, 50);
  stop();
}
