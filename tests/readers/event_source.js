// Reads a stream with the browser's own EventSource until the connection's end, and then closes it.
// With `leave`, it is closed at the first `done`, as a page does it. Gives name, data and last id of each event as
// JSON, which keeps lone surrogates; an event without data is the browser's own.
({ path, leave }) =>
  new Promise((resolve) => {
    const source = new EventSource(path);
    const events = [];
    const end = () => {
      source.close();
      resolve(JSON.stringify(events));
    };
    for (const name of ["message", "status", "token", "error", "done"]) {
      source.addEventListener(name, (event) => {
        const own = !("data" in event);
        events.push([name, own ? null : JSON.parse(event.data), own ? null : event.lastEventId]);
        if (own || (leave && name === "done")) end();
      });
    }
  })
