// The cluster's certificate authority and what it signs, by openssl; and the kubeconfig files made of that.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { API_URL } from "./addressing.ts";

const DAYS = "3650";

export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

export interface Subject {
  /** Names the files. */
  readonly name: string;
  /** The user, as Kubernetes reads it. */
  readonly user: string;
  readonly group?: string;
  /** What a server is called, as openssl writes it: `IP:10.96.0.1`, `DNS:kubernetes`. None: a client only. */
  readonly names?: readonly string[];
}

/** A directory of certificates; everything in it can be written again as long as the authority stays. */
export class Authority {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  get certificate(): string {
    return join(this.directory, "ca.crt");
  }

  get key(): string {
    return join(this.directory, "ca.key");
  }

  /** The key pair that signs the tokens of ServiceAccounts. */
  get tokenKey(): string {
    return join(this.directory, "tokens.key");
  }

  async create(): Promise<void> {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    // An empty configuration: extensions are those of the command line, not the machine's.
    writeFileSync(this.#configuration, "[req]\ndistinguished_name=subject\n[subject]\n");
    await Promise.all([
      this.#request(["/CN=millrace test cluster"], this.key, this.certificate, [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "subjectKeyIdentifier=hash",
      ]),
      runChecked("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", this.tokenKey]),
    ]);
  }

  /** Signs a certificate with a fresh key. */
  async issue({ name, user, group, names = [] }: Subject): Promise<Certificate> {
    const issued = { certificate: join(this.directory, `${name}.crt`), key: join(this.directory, `${name}.key`) };
    const subject = `${group === undefined ? "" : `/O=${group}`}/CN=${user}`;
    const usages = names.length === 0 ? "clientAuth" : "clientAuth,serverAuth";
    await this.#request([subject, "-CA", this.certificate, "-CAkey", this.key], issued.key, issued.certificate, [
      "basicConstraints=CA:FALSE",
      "keyUsage=digitalSignature",
      `extendedKeyUsage=${usages}`,
      ...(names.length === 0 ? [] : [`subjectAltName=${names.join(",")}`]),
    ]);
    return issued;
  }

  get #configuration(): string {
    return join(this.directory, "openssl.cnf");
  }

  async #request(subject: readonly string[], key: string, certificate: string, extensions: string[]): Promise<void> {
    const pair = [
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      key,
      "-out",
      certificate,
    ];
    const added = extensions.flatMap((extension) => ["-addext", extension]);
    const config = ["-config", this.#configuration, "-x509", "-days", DAYS];
    await runChecked("openssl", ["req", ...config, ...pair, "-subj", ...subject, ...added]);
  }
}

export type Identity = Certificate | { readonly tokenFile: string };

/** Writes a kubeconfig that carries authority and certificate in itself; a token stays in its own file. */
export function writeKubeconfig(path: string, authority: Authority, identity: Identity, server = API_URL): void {
  const inline = (file: string) => readFileSync(file).toString("base64");
  const user =
    "tokenFile" in identity
      ? { tokenFile: identity.tokenFile }
      : { "client-certificate-data": inline(identity.certificate), "client-key-data": inline(identity.key) };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "cluster", cluster: { server, "certificate-authority-data": inline(authority.certificate) } }],
    users: [{ name: "user", user }],
    contexts: [{ name: "cluster", context: { cluster: "cluster", user: "user" } }],
    "current-context": "cluster",
  };
  // JSON is YAML.
  writeFileSync(path, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
}
