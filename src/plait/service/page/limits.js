// What is known of each endpoint's limits, in the words of `plait limits`, and what this server waits for now.

import { ago, badge, count, make, many, number } from "./elements.js";

const SOURCES = { set: "as set", refusals: "learnt from refusals", latency: "learnt from latency" };
const REASONS = { concurrency: "calls at once", day: "the day's quota", unknown: "no reason told" };

// `found`: the answer of GET /limits. What did not change stays as it is.
export function drawLimits(element, found) {
  const text = JSON.stringify([found, found.known.map((each) => ago(new Date(each.last_used)))]);
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  if (!found.known.length && !found.here.length) {
    element.replaceChildren(make("p", { className: "soft" }, "Nothing is learnt yet: the first model call begins to."));
    return;
  }
  const here = found.here.filter((each) => each.waiting).map(waitingHere);
  const endpoints = Map.groupBy ? Map.groupBy(found.known, (each) => each.endpoint) : grouped(found.known);
  const parts = [...endpoints].flatMap(([endpoint, models]) => [
    make("h3", { className: "endpoint" }, endpoint),
    ...models.map(modelPart),
  ]);
  element.replaceChildren(...here, ...parts);
}

function grouped(known) {
  const found = new Map();
  for (const each of known) found.set(each.endpoint, [...(found.get(each.endpoint) ?? []), each]);
  return found;
}

function waitingHere(lane) {
  const verb = lane.waiting === 1 ? "waits" : "wait";
  const words = `${many(lane.waiting, "call")} ${verb} for ${lane.cause} (${lane.model || lane.name})`;
  return make("p", { className: "notice" }, words);
}

function modelPart(known) {
  const list = make("dl", { className: "facts" });
  for (const [label, value] of Object.entries(facts(known))) {
    list.append(make("div", {}, make("dt", {}, label), make("dd", {}, value)));
  }
  const paused = known.paused_until ? badge("paused", "bad") : null;
  return make("div", { className: "model" }, make("h4", {}, known.title, " ", paused), list);
}

function facts(known) {
  const rates = { "requests/min": rate(known.requests, known.learns), "tokens/min": rate(known.tokens, known.learns) };
  const found = Object.fromEntries(Object.entries(rates).filter(([, said]) => said));
  if (Object.values(found).every((said) => said === "not found yet")) {
    for (const label of Object.keys(found)) delete found[label];
    if (known.learns) found.limits = "none found yet";
  }
  found["in flight"] = inFlight(known);
  if (known.paused_until) found.paused = `until ${new Date(known.paused_until).toLocaleTimeString("en-GB")}`;
  const { requests, tokens, most_requests: mostRequests, most_tokens: mostTokens } = known.today;
  found.today = `${used(requests, mostRequests, "request")}, ${used(tokens, mostTokens, "token")}`;
  const kinds = Object.entries(known.refused);
  const all = kinds.reduce((sum, [, times]) => sum + times, 0);
  if (all) found.refused = `${count(all)} (${kinds.map(([kind, n]) => `${REASONS[kind] ?? kind} ${count(n)}`).join(", ")})`;
  found["last used"] = ago(new Date(known.last_used));
  return found;
}

function rate(found, learns) {
  const said = found.set_per_minute === null ? [] : [`at most ${number(found.set_per_minute)} as set`];
  if (found.per_minute === null) return [...(learns ? ["not found yet"] : []), ...said].join(", ");
  const value = number(found.per_minute);
  if (found.source === "headers") said.unshift(`${value}, told by headers`);
  else if (found.certainty === "guess") said.unshift(`about ${value}, a guess after refusals`);
  else said.unshift(`${value}, learnt from refusals`);
  if (found.trying_per_minute !== null) said.push(`trying ${number(found.trying_per_minute)}`);
  return said.join("; ");
}

function inFlight(known) {
  const { limit, source } = known.concurrency;
  let said = limit === null ? count(known.in_flight) : `${count(known.in_flight)} of ${count(limit)} ${SOURCES[source]}`;
  if (known.waiting) said += `; ${count(known.waiting)} waiting`;
  if (known.processes > 1) said += `; ${known.processes} processes`;
  return said;
}

function used(value, most, noun) {
  return most === null ? many(value, noun) : `${count(value)} of ${count(most)} ${noun}s`;
}
