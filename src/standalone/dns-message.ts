// One DNS message in, one message out or none: header checks, EDNS, truncation. The records come from dns-records.ts. It
// never throws, whatever the bytes are.
import packet from "dns-packet";
import type { DnsAnswer, DnsRecord, DnsRecords } from "./dns-records.ts";

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
const OPTION_BYTES = 11;
/** A record takes no less: a name of one label and one byte, ten bytes of fields, four of an address. */
const LEAST_RECORD_BYTES = 17;

const REFUSED: DnsAnswer = { rcode: "REFUSED", authoritative: false, answers: [], authorities: [], additionals: [] };

/** What those are answered who may not ask. */
export const NO_RECORDS: Pick<DnsRecords, "answer"> = { answer: () => REFUSED };

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
  const none = { ...REFUSED, rcode: isRefused ? ("REFUSED" as const) : ("NOERROR" as const) };
  // What cannot fit is not even made: one more than fits tells that the answer is cut.
  const most = Math.ceil(limit / LEAST_RECORD_BYTES);
  const answer = isRefused || badVersion ? none : records.answer(question.name, question.type, most);

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

  const answers = answer.answers.map(ownerOf);
  let left = limit - HEADER_BYTES - bytes.length - (edns === undefined ? 0 : OPTION_BYTES);
  const fitting = (list: readonly DnsRecord[]): readonly packet.Answer[] => {
    const taken: packet.Answer[] = [];
    for (const one of list.map(toWire)) {
      left -= packet.encodingLength({ answers: [one] }) - HEADER_BYTES;
      if (left < 0) break;
      taken.push(one);
    }
    return taken;
  };
  const taken = fitting(answers);
  const truncated = taken.length < answers.length;
  const authorities = truncated ? [] : fitting(answer.authorities);
  // Additional records may be left out silently; answers may not.
  const additionals = truncated ? [] : fitting(answer.additionals);
  const reply = packet.encode({
    type: "response",
    id: message.readUInt16BE(0),
    flags:
      (message.readUInt16BE(2) & RD) | (answer.authoritative ? AA : 0) | (truncated ? TC : 0) | RCODES[answer.rcode],
    questions: [question as packet.Question],
    answers: [...taken],
    authorities: [...authorities],
    additionals: [...additionals, ...(edns === undefined ? [] : [option])],
  });
  bytes.copy(reply, HEADER_BYTES);
  return reply;
}
