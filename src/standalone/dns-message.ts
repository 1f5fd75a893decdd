// One DNS message in, one message out or none: header checks, EDNS, truncation. The records come from dns-records.ts. It
// never throws, whatever the bytes are.
import packet from "dns-packet";
import type { DnsRecord, DnsRecords } from "./dns-records.ts";

const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
const HEADER_BYTES = 12;
const QR = 0x8000;
const RD = 0x0100;
const TC = 0x0200;
const AA = 0x0400;
const PLAIN_UDP_BYTES = 512;
/** The largest answer over UDP that is not fragmented on any usual path (DNS flag day 2020). */
export const MAX_UDP_BYTES = 1232;
const MAX_TCP_BYTES = 65_535;
const BADVERS = 16;

interface Question {
  readonly name: string;
  readonly type: string;
  readonly class: string;
}

interface Query {
  readonly question: Question;
  /** The question as it came, byte for byte. */
  readonly bytes: Buffer;
  readonly edns: { readonly size: number; readonly version: number } | undefined;
}

function isWireName(name: string): boolean {
  // Labels that are not plain ASCII do not survive decoding, and no name of ours has any.
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f) return false;
  }
  return true;
}

function decode(message: Buffer): Query | undefined {
  try {
    const decoded = packet.decode(message);
    const [question, ...others] = (decoded.questions ?? []) as unknown as Question[];
    if (question === undefined || others.length > 0) return undefined;
    let end = HEADER_BYTES;
    while ((message[end] ?? 0) !== 0) {
      if ((message[end]! & 0xc0) !== 0) return undefined;
      end += message[end]! + 1;
    }
    const options = (decoded.additionals ?? []).filter((one) => one.type === "OPT");
    if (options.length > 1) return undefined;
    const [option] = options as packet.OptAnswer[];
    const edns = option === undefined ? undefined : { size: option.udpPayloadSize, version: option.ednsVersion };
    return { question, bytes: message.subarray(HEADER_BYTES, end + 5), edns };
  } catch {
    return undefined;
  }
}

function bareReply(message: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(HEADER_BYTES);
  reply.writeUInt16BE(message.readUInt16BE(0), 0);
  const flags = message.readUInt16BE(2);
  reply.writeUInt16BE(QR | (flags & 0x7800) | (flags & RD) | rcode, 2);
  return reply;
}

function toWire(record: DnsRecord): packet.Answer {
  return { ...record, class: "IN" } as unknown as packet.Answer;
}

/** The reply to a message, undefined for what is none of a server's business (no header, a response). */
export function replyTo(
  message: Buffer,
  records: Pick<DnsRecords, "answer">,
  transport: "udp" | "tcp",
): Buffer | undefined {
  if (message.length < HEADER_BYTES) return undefined;
  const flags = message.readUInt16BE(2);
  if ((flags & QR) !== 0) return undefined;
  if ((flags & 0x7800) !== 0) return bareReply(message, RCODES.NOTIMP);
  const query = decode(message);
  if (query === undefined) return bareReply(message, RCODES.FORMERR);
  try {
    return buildReply(message, query, records, transport);
  } catch {
    return bareReply(message, RCODES.SERVFAIL);
  }
}

function buildReply(
  message: Buffer,
  { question, bytes, edns }: Query,
  records: Pick<DnsRecords, "answer">,
  transport: "udp" | "tcp",
): Buffer {
  const clientSize = Math.max(PLAIN_UDP_BYTES, Math.min(edns?.size ?? PLAIN_UDP_BYTES, MAX_UDP_BYTES));
  const limit = transport === "tcp" ? MAX_TCP_BYTES : clientSize;
  const rightClass = question.class === "IN" || question.class === "ANY";
  const isTransfer = question.type === "AXFR" || question.type === "IXFR";
  const badVersion = edns !== undefined && edns.version !== 0;
  const isRefused = !rightClass || isTransfer || !isWireName(question.name);
  const none = {
    rcode: isRefused ? ("REFUSED" as const) : ("NOERROR" as const),
    authoritative: false,
    answers: [],
    authorities: [],
    additionals: [],
  };
  const answer = isRefused || badVersion ? none : records.answer(question.name, question.type);

  const ownerOf = (record: DnsRecord): DnsRecord =>
    record.name === question.name.toLowerCase().replace(/\.$/, "") ? { ...record, name: question.name } : record;
  const option = {
    type: "OPT",
    name: ".",
    udpPayloadSize: MAX_UDP_BYTES,
    extendedRcode: badVersion ? BADVERS >> 4 : 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  } as packet.OptAnswer;

  const encode = (
    answers: readonly DnsRecord[],
    authorities: readonly DnsRecord[],
    additionals: readonly DnsRecord[],
    truncated: boolean,
  ): Buffer => {
    const reply = packet.encode({
      type: "response",
      id: message.readUInt16BE(0),
      flags:
        (message.readUInt16BE(2) & RD) | (answer.authoritative ? AA : 0) | (truncated ? TC : 0) | RCODES[answer.rcode],
      questions: [question as packet.Question],
      answers: answers.map(ownerOf).map(toWire),
      authorities: authorities.map(toWire),
      additionals: [...additionals.map(toWire), ...(edns === undefined ? [] : [option])],
    });
    bytes.copy(reply, HEADER_BYTES);
    return reply;
  };

  const whole = encode(answer.answers, answer.authorities, answer.additionals, false);
  if (whole.length <= limit) return whole;
  // Additional records may be left out silently; answers may not.
  const lean = encode(answer.answers, answer.authorities, [], false);
  if (lean.length <= limit) return lean;
  let fits = 0;
  for (let beyond = answer.answers.length; fits < beyond; ) {
    const middle = Math.ceil((fits + beyond) / 2);
    if (encode(answer.answers.slice(0, middle), [], [], true).length <= limit) fits = middle;
    else beyond = middle - 1;
  }
  return encode(answer.answers.slice(0, fits), [], [], true);
}
