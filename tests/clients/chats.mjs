// What the clients of the two dialects make of an answer: the same code in Node and in a browser.
// `order` says whom to ask and what; `began` is called once, when the first text is there.

// A chat as `useChat` has it: the package's own class and transport, over a state without React.
// `look` is called when its messages change.
export function openChat(ai, { url, key, id, messages = [], fetch }, look = () => {}) {
  const state = {
    status: "ready",
    error: undefined,
    messages,
    pushMessage(message) {
      state.messages = [...state.messages, message];
      look();
    },
    popMessage() {
      state.messages = state.messages.slice(0, -1);
    },
    replaceMessage(index, message) {
      state.messages = [...state.messages.slice(0, index), structuredClone(message), ...state.messages.slice(index + 1)];
      look();
    },
    snapshot: (value) => structuredClone(value),
  };
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const api = `${url}/api/chat`;
  class Chat extends ai.AbstractChat {
    // As a page does that stops an answer, and not only its own reading: see the project's README.
    async stopAnswer() {
      await globalThis.fetch(`${api}/${encodeURIComponent(this.id)}/stream`, { method: "DELETE", headers });
      await this.stop();
    }
  }
  // As a page has them that runs tools of its own: the server's tools are none of these.
  const sendAutomaticallyWhen = ai.lastAssistantMessageIsCompleteWithToolCalls;
  const onToolCall = ({ toolCall }) => {
    throw new Error(`asked to run ${toolCall.toolName}`);
  };
  const transport = new ai.DefaultChatTransport({ api, headers, fetch });
  return new Chat({ id, state, transport, sendAutomaticallyWhen, onToolCall });
}

// The parts of a message, as far as a page shows them: if there is more than text.
export function partsOf({ parts }) {
  if (parts.every((part) => part.type === "text")) return undefined;
  return parts.map(({ type, text, state, toolCallId, toolName, input, output, errorText }) => {
    return { type, text, state, toolCallId, toolName, input, output, errorText };
  });
}

// What is on screen of a chat's last message.
export function lastOf(chat) {
  const last = chat.messages.at(-1);
  const texts = last.role === "assistant" ? last.parts.filter((part) => part.type === "text") : [];
  const text = texts.length ? texts.map((part) => part.text).join("") : undefined;
  const { id, metadata } = last;
  return { id, status: chat.status, error: chat.error?.message, text, state: texts.at(-1)?.state, parts: partsOf(last), metadata };
}

export async function askChat(ai, { url, key, questions, stop }, began = () => {}) {
  let waiting = true;
  const chat = openChat(ai, { url, key }, () => {
    const last = chat.messages.at(-1);
    if (waiting && last.role === "assistant" && last.parts.some((part) => part.text)) {
      waiting = false;
      began();
      if (stop) chat.stopAnswer();
    }
  });
  const answers = [];
  for (const question of questions) {
    await chat.sendMessage({ text: question });
    answers.push(lastOf(chat));
  }
  return { answers };
}

function counts({ total_tokens: tokens, completion_tokens_details: details }) {
  return { tokens, thinking: details?.reasoning_tokens };
}

// With OpenAI's SDK: a stream, or a completion in one piece; the models with `list`.
// `thoughts`, where there are some, are the `reasoning_content`: the SDK has no type for it, and passes it on.
export async function askOpenai(OpenAI, { url, key, question, stop, stream, list, extra, timeout = 30_000, retries = 0 }, began = () => {}) {
  const options = { baseURL: `${url}/v1`, apiKey: key || "none", timeout, maxRetries: retries, dangerouslyAllowBrowser: true };
  const client = new OpenAI(options);
  const seen = { text: "" };
  try {
    if (list) {
      for await (const model of client.models.list()) seen.text += model.id;
      seen.model = (await client.models.retrieve(list)).id;
      return seen;
    }
    const body = { model: "any", messages: [{ role: "user", content: question }], ...extra };
    if (!stream) {
      const answer = await client.chat.completions.create(body);
      const [{ message, finish_reason: finish }] = answer.choices;
      const { content: text, reasoning_content: thoughts, tool_calls } = message;
      return { text, thoughts, calls: tool_calls?.length, finish, id: answer.id, model: answer.model, ...counts(answer.usage) };
    }
    body.stream = true;
    for await (const chunk of await client.chat.completions.create(body)) {
      seen.id = chunk.id;
      seen.model = chunk.model;
      if (chunk.usage) Object.assign(seen, counts(chunk.usage));
      for (const { delta, finish_reason } of chunk.choices) {
        if (delta.content && !seen.text) began();
        seen.text += delta.content ?? "";
        if (delta.reasoning_content) seen.thoughts = (seen.thoughts ?? "") + delta.reasoning_content;
        if (delta.tool_calls) seen.calls = delta.tool_calls.length;
        seen.finish = finish_reason ?? undefined;
      }
      if (stop && seen.text) break;
    }
  } catch (error) {
    const { status, code, param, message } = error;
    seen.error = { kind: error.constructor.name, status, code, param, message };
  }
  return seen;
}
