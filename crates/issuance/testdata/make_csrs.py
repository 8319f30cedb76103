#!/usr/bin/env python3
"""Makes the CSR vectors: csr/NAME.pem, named after the fault they carry.

Needs the openssl command, and the fixed keys of the testkit. Run it in this folder. Most CSRs are
built by hand here, because no tool would make them; all but those about signatures carry a good
self-signature, so that the fault they are named after is the only one.
"""
import base64, os, subprocess, tempfile

KEYS = "../../testkit/testdata/keys"
OUT = "csr"


def tlv(tag, *parts):
    content = b"".join(parts)
    n = len(content)
    if n < 128:
        return bytes([tag, n]) + content
    length = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def seq(*parts): return tlv(0x30, *parts)
def set_(*parts): return tlv(0x31, *parts)
def octets(b): return tlv(0x04, b)
def bits(b): return tlv(0x03, b"\0" + b)
def utf8(s): return tlv(0x0c, s if isinstance(s, bytes) else s.encode())


def oid(dotted):
    a, b, *rest = map(int, dotted.split("."))
    out = bytearray()
    for n in [a * 40 + b, *rest]:
        chunk = [n & 0x7f]
        while n := n >> 7:
            chunk.insert(0, 0x80 | n & 0x7f)
        out += bytes(chunk)
    return tlv(0x06, bytes(out))


def attribute(kind, value): return set_(seq(oid(kind), value))
def name(*rdns): return seq(*rdns)
def cn(value): return attribute("2.5.4.3", value)
def extension(kind, value, critical=False):
    return seq(oid(kind), *([b"\x01\x01\xff"] if critical else []), octets(value))
def requested(*extensions): return seq(oid("1.2.840.113549.1.9.14"), set_(seq(*extensions)))
def san(*names): return extension("2.5.29.17", seq(*names))
def dns(s): return tlv(0x82, s if isinstance(s, bytes) else s.encode())


def run(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def spki(key): return run("pkey", "-in", f"{KEYS}/{key}.pem", "-pubout", "-outform", "DER")


ECDSA_SHA256 = seq(oid("1.2.840.10045.4.3.2"))


def sign(key, info):
    with tempfile.NamedTemporaryFile() as file:
        file.write(info)
        file.flush()
        return run("dgst", "-sha256", "-sign", f"{KEYS}/{key}.pem", file.name)


def csr(subject=None, attributes=b"", key="p256", signed_by=None, key_info=None, tail=b""):
    info = seq(b"\x02\x01\x00", subject or name(cn(utf8("host.example.com"))), key_info or spki(key),
               tlv(0xa0, attributes), tail)
    return seq(info, ECDSA_SHA256, bits(sign(signed_by or key, info)))


def write(file, der, label="CERTIFICATE REQUEST"):
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = "\n".join(body[i:i + 64] for i in range(0, len(body), 64))
    with open(f"{OUT}/{file}.pem", "w") as out:
        out.write(f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")


def openssl_csr(file, key, *options):
    der = run("req", "-new", "-key", f"{KEYS}/{key}.pem", "-subj", "/CN=host.example.com", "-outform", "DER", *options)
    write(file, der)


os.makedirs(OUT, exist_ok=True)

for kind in ["rsa2048", "rsa2056", "rsa1024", "p224", "p256", "p384", "p521", "ed25519", "k256", "ed448"]:
    openssl_csr(f"key_{kind}", kind)
for digest in ["sha1", "sha384", "sha512", "md5", "sha224"]:
    openssl_csr(f"signed_rsa_{digest}", "rsa2048", f"-{digest}")
    if digest != "md5":  # openssl knows no such combination
        openssl_csr(f"signed_p256_{digest}", "p256", f"-{digest}")
for salt in ["32", "20"]:
    openssl_csr(f"signed_pss_salt_{salt}", "rsa2048", "-sha256", "-sigopt", "rsa_padding_mode:pss",
                "-sigopt", f"rsa_pss_saltlen:{salt}")
write("label_new", run("req", "-new", "-key", f"{KEYS}/p256.pem", "-subj", "/CN=host.example.com", "-outform", "DER"),
      "NEW CERTIFICATE REQUEST")

write("signed_by_another_key", csr(signed_by="p256-other"))
good = csr()
broken = bytearray(good)
broken[-1] ^= 1
write("signature_broken", bytes(broken))
write("trailing_bytes", good + b"\0")
write("trailing_bytes_inside", csr(tail=b"\x05\x00"))
write("cut_short", good[:-5])
write("length_indefinite", b"\x30\x80" + good[4:] + b"\0\0")
write("length_not_minimal", b"\x30\x83\x00" + good[2:4] + good[4:])
write("not_a_request", name(cn(utf8("x"))))

write("all_kinds_of_names", csr(
    name(attribute("2.5.4.6", tlv(0x13, b"DE")), attribute("2.5.4.10", utf8("M\u00fcller")),
         attribute("2.5.4.11", utf8("a")), attribute("2.5.4.11", utf8("b")), cn(utf8("host.example.com")),
         attribute("2.5.4.5", tlv(0x13, b"sn-1")), attribute("0.9.2342.19200300.100.1.1", utf8("user-1"))),
    requested(
        san(dns("host.example.com"), tlv(0x81, b"me@example.com"), tlv(0x87, bytes([10, 1, 2, 3])),
            tlv(0x87, bytes.fromhex("fd000000000000000000000000000001")), tlv(0x86, b"spiffe://cluster.local/ns/a/sa/b"),
            tlv(0xa0, oid("1.3.6.1.4.1.311.20.2.3"), tlv(0xa0, utf8("me@corp")))),
        extension("2.5.29.15", bytes.fromhex("03020284"), True),
        extension("2.5.29.19", seq(b"\x01\x01\xff", b"\x02\x01\x03"), True),
        extension("1.2.3.4.5", utf8("hello")))))
write("no_subject_and_no_attributes", csr(name()))
write("subject_bmp_string", csr(name(cn(tlv(0x1e, "h\u00f6st".encode("utf-16-be"))))))
write("subject_teletex_string", csr(name(cn(tlv(0x14, "h\u00f6st".encode("latin-1"))))))
write("subject_nul", csr(name(cn(utf8("host.example.com\0.evil.org")))))
write("subject_bad_utf8", csr(name(cn(utf8(b"ho\xffst")))))
write("subject_not_a_string", csr(name(cn(b"\x02\x01\x07"))))
write("extension_twice", csr(attributes=requested(san(dns("a.example.com")), san(dns("b.example.com")))))
write("extensions_in_two_attributes", csr(attributes=requested(san(dns("a.example.com"))) + requested(san(dns("b.example.com")))))
write("extension_boolean_not_der", csr(attributes=requested(seq(oid("1.2.3"), b"\x01\x01\x01", octets(b"\x05\x00")))))
write("other_attribute", csr(attributes=seq(oid("1.2.840.113549.1.9.7"), set_(utf8("challenge")))))

write("san_dns_nul", csr(attributes=requested(san(dns(b"host.example.com\0.evil.org")))))
write("san_dns_utf8", csr(attributes=requested(san(dns("b\u00fccher.example.com")))))
write("san_dns_empty", csr(attributes=requested(san(dns("")))))
write("san_email_newline", csr(attributes=requested(san(tlv(0x81, b"a@example.com\nb")))))
write("san_ip_five_bytes", csr(attributes=requested(san(tlv(0x87, bytes(5))))))
write("san_ip_mapped", csr(attributes=requested(san(tlv(0x87, bytes(10) + b"\xff\xff" + bytes([1, 2, 3, 4]))))))
write("san_uri_blank_in_host", csr(attributes=requested(san(tlv(0x86, b"http://foo bar/")))))
write("san_uri_empty_label", csr(attributes=requested(san(tlv(0x86, b"http://fo..o/")))))
write("san_uri_scheme_in_capitals", csr(attributes=requested(san(tlv(0x86, b"HTTP://Foo/Bar")))))
write("san_other_name_ia5", csr(attributes=requested(san(tlv(0xa0, oid("1.2.3"), tlv(0xa0, tlv(0x16, b"x")))))))
write("san_other_name_bad_utf8", csr(attributes=requested(san(tlv(0xa0, oid("1.2.3"), tlv(0xa0, utf8(b"\xff")))))))
write("san_directory_name", csr(attributes=requested(san(dns("a.example.com"), tlv(0xa4, name(cn(utf8("x"))))))))
write("san_registered_id", csr(attributes=requested(san(tlv(0x88, oid("1.2.3")[2:])))))
write("san_unknown_tag", csr(attributes=requested(san(tlv(0x8f, b"x")))))
write("san_trailing_bytes", csr(attributes=requested(extension("2.5.29.17", seq(dns("a.example.com")) + b"\0"))))
write("san_not_a_sequence", csr(attributes=requested(extension("2.5.29.17", dns("a.example.com")))))
write("basic_constraints_negative", csr(attributes=requested(extension("2.5.29.19", seq(b"\x01\x01\xff", b"\x02\x01\xff")))))

point = spki("p256")[-65:]
compressed = bytes([2 + (point[64] & 1)]) + point[1:33]
P256 = seq(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
write("key_point_compressed", csr(key_info=seq(P256, bits(compressed))))
off_curve = bytearray(point)
off_curve[-1] ^= 1
write("key_point_off_curve", csr(key_info=seq(P256, bits(bytes(off_curve)))))
write("key_bits_unused", csr(key_info=seq(P256, tlv(0x03, b"\x01" + point))))
