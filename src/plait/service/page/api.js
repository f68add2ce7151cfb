// Asks the server: URLs relative to where the page lies, the API key, errors as the server words them.

const ROOT = new URL("..", import.meta.url);
const KEPT = "plait-api-key";

let onRefused = () => {};

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// `refused` is called whenever the server wants a key, or another one.
export function whenRefused(refused) {
  onRefused = refused;
}

export function key() {
  return sessionStorage.getItem(KEPT) ?? "";
}

export function keepKey(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

// The response, whose status is a good one. Raises ApiError, status 0 where nobody answered.
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (key()) sent["X-Api-Key"] = key();
  let response;
  try {
    const content = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(new URL(path, ROOT), { method, headers: sent, body: content, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is `plait serve` still running, and the network up?");
  }
  if (response.ok) return response;
  const problem = new ApiError(response.status, await wording(response));
  if (response.status === 401) onRefused(problem);
  throw problem;
}

export async function get(path, options) {
  return (await ask(path, options)).json();
}

export async function post(path, body, options) {
  return (await ask(path, { ...options, method: "POST", body })).json();
}

async function wording(response) {
  const retry = response.headers.get("Retry-After");
  const again = retry && Number(retry) > 0 ? ` Try again in ${retry} s.` : "";
  let detail;
  try {
    ({ detail } = await response.json());
  } catch {
    detail = null;
  }
  if (Array.isArray(detail)) detail = detail.map((each) => `${(each.loc ?? []).join(".")}: ${each.msg}`).join("\n");
  return `${detail || `The server answered ${response.status} ${response.statusText}.`}${again}`;
}
