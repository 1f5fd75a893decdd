// The cluster's API for this process, which is in none of its namespaces: HTTPS over a unix socket that leads to the API server.
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { Failure } from "../../src/lib/errors.ts";
import { KUBERNETES_ADDRESS } from "./addressing.ts";
import type { Authority, Certificate } from "./certificates.ts";

export interface ApiAnswer {
  readonly status: number;
  /** Parsed, when it is JSON. */
  readonly body: unknown;
}

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  /** @default "application/json"; of a PATCH "application/merge-patch+json" */
  readonly contentType?: string;
}

const TIMEOUT_MS = 30_000;

export class ApiClient {
  readonly #socketPath: string;
  readonly #agent: Agent;

  constructor(socketPath: string, authority: Authority, { certificate, key }: Certificate) {
    this.#socketPath = socketPath;
    this.#agent = new Agent({
      keepAlive: true,
      ca: readFileSync(authority.certificate),
      cert: readFileSync(certificate),
      key: readFileSync(key),
      // The name that is checked: the socket has none.
      servername: "kubernetes",
    });
  }

  /** One request. Never throws for a status. @throws unreachable when the API server does not answer */
  send({ method = "GET", path, body, contentType }: ApiRequest): Promise<ApiAnswer> {
    const type = contentType ?? (method === "PATCH" ? "application/merge-patch+json" : "application/json");
    const headers = { host: KUBERNETES_ADDRESS, accept: "application/json", "content-type": type };
    const options = { socketPath: this.#socketPath, agent: this.#agent, method, path, headers, timeout: TIMEOUT_MS };
    return new Promise((resolve, reject) => {
      const failed = (cause: Error) =>
        reject(
          new Failure("unreachable", path, `could not ask the API server for ${path}: ${cause.message}`, { cause }),
        );
      const call = request(options, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", failed);
        response.on("end", () => {
          const text = Buffer.concat(parts).toString();
          const isJson = response.headers["content-type"]?.startsWith("application/json") === true;
          try {
            resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text });
          } catch (error) {
            failed(error as Error);
          }
        });
      });
      call.on("timeout", () => call.destroy(new Error(`no answer for ${TIMEOUT_MS / 1000} s`)));
      call.on("error", failed);
      call.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
    });
  }

  /** The answer's body. @throws not_found, or invalid_object for another status that is no success */
  async ask<T = unknown>(wish: ApiRequest | string): Promise<T> {
    const sent = typeof wish === "string" ? { path: wish } : wish;
    const { status, body } = await this.send(sent);
    if (status >= 200 && status < 300) return body as T;
    const said = (body as { message?: string }).message ?? String(body).slice(0, 200);
    const message = `could not ${sent.method ?? "GET"} ${sent.path}: ${status}, ${said}`;
    throw new Failure(status === 404 ? "not_found" : "invalid_object", sent.path, message);
  }

  close(): void {
    this.#agent.destroy();
  }
}
