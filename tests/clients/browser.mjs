// For a page of another origin: `ask(name, order)`.
import * as ai5 from "ai5";
import * as ai5First from "ai5-first";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import OpenAI from "openai";
import { askChat, askOpenai } from "./chats.mjs";

const chats = { "ai5-first": ai5First, ai5, ai6, ai7 };
window.ask = (name, order) => (name === "openai" ? askOpenai(OpenAI, order) : askChat(chats[name], order));
