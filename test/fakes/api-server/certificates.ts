// Certificates for tests, with any names and any lifetime: a CA and what it signs (X.509 v3 of RFC 5280, P-256 keys),
// encoded here because Node reads certificates but makes none, and command line tools count lifetimes in days.
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIPv4 } from "node:net";

export interface KeyAndCertificate {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
}

export interface CertificateRequest {
  /** Of a client: the user's name. */
  readonly commonName: string;
  readonly usage: "server" | "client";
  /** DNS names that a server answers to. */
  readonly names?: readonly string[];
  /** IPv4 addresses that a server answers to. */
  readonly addresses?: readonly string[];
  /** Milliseconds since the epoch; X.509 keeps whole seconds. Default: an hour ago. */
  readonly notBefore?: number;
  /** Default: in a day. */
  readonly notAfter?: number;
}

const HOUR_MS = 3_600_000;
const ECDSA_SHA256 = "1.2.840.10045.4.3.2";
const COMMON_NAME = "2.5.4.3";
const SUBJECT_ALT_NAME = "2.5.29.17";
const BASIC_CONSTRAINTS = "2.5.29.19";
const EXTENDED_KEY_USAGE = "2.5.29.37";
const PURPOSES = { server: "1.3.6.1.5.5.7.3.1", client: "1.3.6.1.5.5.7.3.2" };

export class TestAuthority {
  /** PEM. */
  readonly cert: string;
  readonly #name: string;
  readonly #key: KeyObject;

  constructor(name: string) {
    const { key, publicKey } = newKey();
    this.#name = name;
    this.#key = createPrivateKey(key);
    const isCa = extension(BASIC_CONSTRAINTS, sequence(boolean(true)));
    this.cert = this.#certificate(name, publicKey, [isCa], Date.now() - HOUR_MS, Date.now() + 240 * HOUR_MS);
  }

  issue({ commonName, usage, names = [], addresses = [], notBefore, notAfter }: CertificateRequest): KeyAndCertificate {
    const { key, publicKey } = newKey();
    const extensions = [extension(EXTENDED_KEY_USAGE, sequence(objectId(PURPOSES[usage])))];
    const alternatives = [
      ...names.map((name) => der(0x82, Buffer.from(name))),
      ...addresses.filter(isIPv4).map((address) => der(0x87, Buffer.from(address.split(".").map(Number)))),
    ];
    if (alternatives.length > 0) extensions.push(extension(SUBJECT_ALT_NAME, sequence(...alternatives)));
    const start = notBefore ?? Date.now() - HOUR_MS;
    return {
      key,
      cert: this.#certificate(commonName, publicKey, extensions, start, notAfter ?? Date.now() + 24 * HOUR_MS),
    };
  }

  #certificate(subject: string, publicKey: Buffer, extensions: Buffer[], notBefore: number, notAfter: number): string {
    const algorithm = sequence(objectId(ECDSA_SHA256));
    const toBeSigned = sequence(
      der(0xa0, der(0x02, Buffer.from([2]))),
      // Positive, hence the leading byte.
      der(0x02, Buffer.concat([Buffer.from([0x40]), randomBytes(8)])),
      algorithm,
      distinguishedName(this.#name),
      sequence(time(notBefore), time(notAfter)),
      distinguishedName(subject),
      publicKey,
      der(0xa3, sequence(...extensions)),
    );
    const signature = sign("sha256", toBeSigned, this.#key);
    return pem(sequence(toBeSigned, algorithm, bitString(signature)));
  }
}

function newKey(): { readonly key: string; readonly publicKey: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKey: publicKey.export({ type: "spki", format: "der" }),
  };
}

/** One tag-length-value of the Distinguished Encoding Rules (X.690). */
function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function boolean(value: boolean): Buffer {
  return der(0x01, Buffer.from([value ? 0xff : 0]));
}

function bitString(bits: Buffer): Buffer {
  return der(0x03, Buffer.concat([Buffer.from([0]), bits]));
}

function objectId(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let left = value >>> 7; left > 0; left >>>= 7) digits.unshift((left & 0x7f) | 0x80);
  return digits;
}

function distinguishedName(commonName: string): Buffer {
  return sequence(der(0x31, sequence(objectId(COMMON_NAME), der(0x0c, Buffer.from(commonName)))));
}

/** UTCTime: two digits of the year, good until 2049. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/\.\d+Z$|[-:T]/g, "");
  return der(0x17, Buffer.from(`${digits.slice(2)}Z`));
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(objectId(id), der(0x04, value));
}

function pem(bytes: Buffer): string {
  const lines = bytes.toString("base64").replace(/.{64}/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}
