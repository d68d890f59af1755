// Reads event streams with eventsource-parser.
// A line in: the chunks that a network might bring, as a JSON list of base64.
// A line out: name, data and last id of each event, and what the reader complained of.
import { createParser } from "eventsource-parser";
import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  const events = [];
  const complaints = [];
  let lastEventId = "";
  const parser = createParser({
    onEvent({ event, data, id }) {
      lastEventId = id ?? lastEventId;
      try {
        events.push([event ?? "message", JSON.parse(data), lastEventId]);
      } catch (error) {
        complaints.push(error.message);
      }
    },
    onError(error) {
      complaints.push(error.message);
    },
  });
  const decoder = new TextDecoder();
  for (const chunk of JSON.parse(line)) {
    parser.feed(decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
  }
  console.log(JSON.stringify({ events, complaints }));
}
