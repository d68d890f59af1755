// What happens to the pages of one chat: `scenes.NAME(open)` gives what is on screen of each page in the end.
import { openChat, partsOf } from "./chats.mjs";

const LONG = "a question of so many words that its answer takes a while and a page can leave before it has ended";
const user = (messages) => messages.filter((message) => message.role === "user");

// A page with the chat, whose connections can be lost.
class Page {
  constructor(ai, order, messages = []) {
    this.connections = new Set();
    this.breaksBehind = 0; // so many chunks of its next answer. 0: it does not break
    const fetch = async (resource, init) => {
      const lost = new AbortController();
      this.connections.add(lost);
      const signals = [lost.signal, init.signal].filter(Boolean);
      const response = await globalThis.fetch(resource, { ...init, signal: AbortSignal.any(signals) });
      if (!this.breaksBehind) return response;
      const body = broken(response.body, this.breaksBehind);
      this.breaksBehind = 0;
      return new Response(ReadableStream.from(body), response);
    };
    this.seen = () => {};
    this.chat = openChat(ai, { ...order, messages: structuredClone(messages), fetch }, () => this.seen());
  }

  get text() {
    const last = this.chat.messages.at(-1);
    const texts = last?.role === "assistant" ? last.parts.filter((part) => part.type === "text") : [];
    return texts.map((part) => part.text).join("");
  }

  // Until so much of an answer is on screen.
  async shows(text = "You said: a") {
    await this.until(() => this.text.startsWith(text));
  }

  async until(there) {
    while (!there()) await new Promise((resolve) => (this.seen = resolve));
  }

  lose() {
    for (const connection of this.connections) connection.abort(new TypeError("network error"));
  }

  // As a page does that has just opened the chat: see the project's README.
  async load() {
    const last = this.chat.messages.at(-1);
    if (last.metadata?.reason) return;
    if (last.role === "assistant") this.chat.messages = this.chat.messages.slice(0, -1);
    await this.chat.resumeStream();
  }

  screen() {
    const messages = this.chat.messages.map((message) => {
      const { id, role, metadata } = message;
      const texts = message.parts.filter((part) => part.type === "text");
      const state = texts.at(-1)?.state;
      return { id, role, texts: texts.map((part) => part.text), state, parts: partsOf(message), metadata };
    });
    return { status: this.chat.status, error: this.chat.error?.message, messages };
  }
}

// What comes over a connection that is lost behind so many chunks.
async function* broken(body, chunks) {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const frames = (text + piece).split("\n\n");
    text = frames.pop();
    for (const frame of frames.filter((frame) => frame.startsWith("data: "))) {
      yield new TextEncoder().encode(`${frame}\n\n`);
      await new Promise((shown) => setTimeout(shown));
      if (--chunks === 0) throw new TypeError("network error");
    }
  }
}

// A page on which an answer has begun, and what becomes of its request.
async function begun(open, question = LONG) {
  const page = open();
  const asked = page.chat.sendMessage({ text: question });
  await page.shows("You said: ");
  return { page, asked };
}

const scenes = {
  async loadsAgain(open) {
    const { page, asked } = await begun(open);
    page.lose();
    await asked;
    const lost = page.screen();
    const again = open(page.chat.messages);
    const resumed = again.load();
    await again.shows();
    again.lose();
    await resumed;
    const third = open(again.chat.messages);
    await third.load();
    return [lost, again, third];
  },

  async loadsAgainAfterTheEnd(open) {
    const { page, asked } = await begun(open);
    page.lose();
    await asked;
    await open(user(page.chat.messages)).load();
    const again = open(page.chat.messages);
    await again.load();
    const third = open(again.chat.messages);
    await third.load();
    return [page, again, third];
  },

  async twoTabs(open) {
    const { page, asked } = await begun(open);
    const other = open(user(page.chat.messages));
    await Promise.all([asked, other.load()]);
    return [page, other];
  },

  // What `useChat` of `ai` 6 and 7 does by itself when a hidden tab is seen again.
  async isSeenAgain(open) {
    const { page, asked } = await begun(open);
    page.lose();
    await asked;
    await page.chat["~resumeStreamIfDisconnected"]();
    return [page];
  },

  async regeneratesWhileItRuns(open) {
    const { page, asked } = await begun(open);
    const other = open(user(page.chat.messages));
    const followed = other.load();
    page.lose();
    await asked;
    await page.chat.regenerate();
    await followed;
    return [other, page];
  },

  async regeneratesAfterTheEnd(open) {
    const page = open();
    await page.chat.sendMessage({ text: "to be" });
    const before = page.screen();
    await page.chat.regenerate();
    return [before, page];
  },

  async asksWithAPartOfTheAnswer(open) {
    const { page, asked } = await begun(open);
    page.lose();
    await asked;
    const part = page.screen();
    await page.chat.sendMessage();
    return [part, page];
  },

  // The first tab reads by its POST, the second by a GET: that one stops the answer, in 5.0.0 too.
  async stopsInAnotherTab(open) {
    const { page, asked } = await begun(open, "wait");
    const other = open(user(page.chat.messages));
    const followed = other.load();
    await other.shows("You said: wait");
    await other.chat.stopAnswer();
    await Promise.all([asked, followed]);
    const later = open(user(page.chat.messages));
    await later.load();
    return [page, other, later];
  },

  async asksSomethingElse(open) {
    const { page, asked } = await begun(open, "wait");
    const other = open(user(page.chat.messages));
    const followed = other.load();
    await other.shows("You said: wait");
    await page.chat.sendMessage({ text: LONG });
    await Promise.all([asked, followed]);
    return [page, other];
  },

  // What is on screen of an answer, one after another.
  async thinks(open) {
    const page = open();
    const seen = [];
    page.seen = () => {
      const answer = page.chat.messages[1]?.parts ?? [];
      const parts = answer.map(({ type, toolName, state }) => `${toolName ?? type} ${state}`);
      if (parts.join() !== seen.at(-1)?.join()) seen.push(parts);
    };
    await page.chat.sendMessage({ text: "think" });
    return [{ ...page.screen(), seen }];
  },

  async isStoppedInATool(open) {
    const page = open();
    const asked = page.chat.sendMessage({ text: "use a tool and wait" });
    await page.until(() => page.chat.messages[1]?.parts.some((part) => part.type === "dynamic-tool"));
    await page.chat.stopAnswer();
    await asked;
    return [page];
  },

  // A connection is lost behind each chunk of an answer, each of its own chat, and its page comes back in one of the ways.
  async isLostAnywhere(open, began, way) {
    const chats = Array.from({ length: 30 }, async (_, place) => {
      const page = open([], place);
      page.breaksBehind = place + 1;
      await page.chat.sendMessage({ text: "think" });
      const lost = page.screen();
      let again = page;
      if (way === "sends") await page.chat.sendMessage();
      else if (way === "regenerates") await page.chat.regenerate();
      else if (way === "is seen again") await page.chat["~resumeStreamIfDisconnected"]();
      else await (again = open(page.chat.messages, place)).load();
      return [lost, again];
    });
    return (await Promise.all(chats)).flat();
  },

  async findsNothing(open) {
    const page = open([{ id: "m-1", role: "user", parts: [{ type: "text", text: "to be" }] }]);
    await page.load();
    return [page];
  },

  async isThereWhenTheServerEnds(open, began) {
    const { page, asked } = await begun(open, "wait");
    const other = open(user(page.chat.messages));
    const followed = other.load();
    await other.shows("You said: wait");
    began();
    await Promise.all([asked, followed]);
    return [page, other];
  },

  // Loads again as often as its server goes down, with all that it has then.
  async comesBackToItsEnd(open, began, question) {
    const { page, asked } = await begun(open, question);
    began();
    await asked;
    const pages = [page];
    while (pages.at(-1).chat.status === "error") {
      pages.push(open(pages.at(-1).chat.messages));
      await pages.at(-1).load();
    }
    return pages;
  },
};

export async function play(ai, { scene, question, way, ...order }, began) {
  const open = (messages, place = "") => new Page(ai, { ...order, id: `${order.id}${place}` }, messages);
  const pages = await scenes[scene](open, began, question ?? way);
  return { question: LONG, pages: pages.map((page) => (page instanceof Page ? page.screen() : page)) };
}
