// Keep-alive connections, shared by requests with the same TLS material and proxy. When the material changes, running
// answers keep their connections and nothing else does: no new request goes out under an old certificate.
import http from "node:http";
import https from "node:https";
import type { ApiServer } from "./api-servers.ts";
import type { Credentials } from "./connection.ts";

const MAX_IDLE_CONNECTIONS = 4;

export interface Lease {
  readonly agent: http.Agent;
  /** To be called once, when the answer has ended. */
  release(): void;
}

export interface ConnectionPools {
  lease(server: ApiServer, credentials: Credentials): Lease;
  /** Ends all connections. */
  close(): void;
}

interface Pool {
  readonly agent: http.Agent;
  readonly tlsDigest: string;
  users: number;
}

export function createConnectionPools(): ConnectionPools {
  const pools = new Map<string, Pool>();

  function end(key: string, pool: Pool): void {
    pool.agent.destroy();
    pools.delete(key);
  }

  return {
    lease(server, credentials) {
      const { tlsDigest } = credentials;
      for (const [key, pool] of pools) if (pool.users === 0 && pool.tlsDigest !== tlsDigest) end(key, pool);
      const key = `${server.url.protocol} ${server.proxyUrl ?? ""} ${tlsDigest}`;
      const pool = pools.get(key) ?? { agent: agentFor(server, credentials), tlsDigest, users: 0 };
      pools.set(key, pool);
      pool.users += 1;
      return {
        agent: pool.agent,
        release() {
          pool.users -= 1;
        },
      };
    },
    close() {
      for (const [key, pool] of pools) end(key, pool);
    },
  };
}

function agentFor({ url, proxyUrl }: ApiServer, { context, verify }: Credentials): http.Agent {
  const options: http.AgentOptions = {
    keepAlive: true,
    maxFreeSockets: MAX_IDLE_CONNECTIONS,
    ...(proxyUrl === undefined ? {} : { proxyEnv: { HTTP_PROXY: proxyUrl, HTTPS_PROXY: proxyUrl } }),
  };
  if (url.protocol === "http:") return new http.Agent(options);
  return new https.Agent({
    ...options,
    secureContext: context(),
    rejectUnauthorized: verify,
    // A resumed session would carry on with a certificate that has expired meanwhile.
    maxCachedSessions: 0,
  });
}
