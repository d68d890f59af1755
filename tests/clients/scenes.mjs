// What happens to the pages of one chat: `scenes.NAME(open)` gives what is on screen of each page in the end.
import { openChat } from "./chats.mjs";

const LONG = "a question of so many words that its answer takes a while and a page can leave before it has ended";
const user = (messages) => messages.filter((message) => message.role === "user");

// A page with the chat, whose connections can be lost.
class Page {
  constructor(ai, order, messages = []) {
    this.connections = new Set();
    const fetch = async (resource, init) => {
      const lost = new AbortController();
      this.connections.add(lost);
      const signals = [lost.signal, init.signal].filter(Boolean);
      return globalThis.fetch(resource, { ...init, signal: AbortSignal.any(signals) });
    };
    this.seen = () => {};
    this.chat = openChat(ai, { ...order, messages: structuredClone(messages), fetch }, () => this.seen());
  }

  get text() {
    const last = this.chat.messages.at(-1);
    return last?.role === "assistant" ? last.parts.map((part) => part.text).join("") : "";
  }

  // Until so much of an answer is on screen.
  async shows(text = "You said: a") {
    while (!this.text.startsWith(text)) await new Promise((resolve) => (this.seen = resolve));
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
    const messages = this.chat.messages.map(({ id, role, parts, metadata }) => {
      const texts = parts.filter((part) => part.type === "text");
      return { id, role, texts: texts.map((part) => part.text), state: texts.at(-1)?.state, metadata };
    });
    return { status: this.chat.status, error: this.chat.error?.message, messages };
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

export async function play(ai, { scene, question, ...order }, began) {
  const pages = await scenes[scene]((messages) => new Page(ai, order, messages), began, question);
  return { question: LONG, pages: pages.map((page) => (page instanceof Page ? page.screen() : page)) };
}
