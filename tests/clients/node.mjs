// One client for all orders of a test run, each a line of JSON: `node.mjs PACKAGE`.
// Prints `began` when the first text is there, and what came of the order as JSON.
import { createInterface } from "node:readline";
import { askChat, askOpenai } from "./chats.mjs";
import { play } from "./scenes.mjs";

const LONGEST_MS = 60_000; // only a broken test waits that long
const [, , name] = process.argv;
const client = await import(name);

function ask(order, began) {
  if (name === "openai") return askOpenai(client.default, order, began);
  return order.scene ? play(client, order, began) : askChat(client, order, began);
}

for await (const line of createInterface({ input: process.stdin })) {
  const late = setTimeout(() => process.exit(1), LONGEST_MS);
  console.log(JSON.stringify(await ask(JSON.parse(line), () => console.log('"began"'))));
  clearTimeout(late);
}
