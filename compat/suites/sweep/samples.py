"""Roles and requests from a seed. A sample is data: it can be printed, made smaller, and sent again."""

import functools, ipaddress, random, warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import der

# The library warns of names that are longer or shorter than they may be. They shall be.
warnings.filterwarnings("ignore", category=UserWarning)

ISSUERS = ["default", "rsa", "short", "strict", "open", "absent"]

# Domains, names and their disguises. Most samples take from the first list, so that enough of them are allowed.
DOMAINS = ["example.com", "a.example.com", "svc.cluster.local", "EXAMPLE.com", "*.example.com", "ex*e.com", "*@example.com",
           "user@example.com", "localhost", "example.com.", "xn--bcher-kva.example", "bücher.example", "com", "*", "10.0.0.1",
           "", " example.com", "a b", "-a.example"]
NAMES = ["example.com", "a.example.com", "b.a.example.com", "web.svc.cluster.local", "*.example.com", "*.a.example.com",
         "user@example.com", "localhost", "10.0.0.1", "a.example.org"]
DISGUISES = ["A.EXAMPLE.COM", "a.example.com.", "w*.example.com", "a.*.com", "*", "**.example.com", "bücher.example",
             "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example", "xn--a.example.com", "a。example.com",
             "аpple.example.com", "a\u00ad.example.com", "_dmarc.example.com", "a_b.example.com", "-a.example.com",
             "a-.example.com", "a..example.com", ".example.com", "example.com:443", "a.example.com/x", "https://example.com",
             "::1", "[::1]", "::ffff:10.0.0.1", "10.0.0.256", "0x7f.1", "USER@EXAMPLE.com", "user@a.example.com",
             "user@evil.org@example.com", "user@*.example.com", "*@example.com", "user@", "@example.com", "localhost.",
             "localhost.localdomain", "LOCALHOST", "*.localhost", "a b", " a.example.com", "a.example.com ", "a,b",
             "exampleXcom", "notexample.com", "x" * 64 + ".example.com", ".".join(["a"] * 130) + ".example.com", "1.2.3.4.5",
             "spiffe://example.com/x", "a\tb", "a\nb.example.com", "例え.example.com", "faß.example.com", "a.EXAMPLE。com"]
URIS = ["spiffe://cluster.local/ns/foo/sa/sleep", "spiffe://example.com/x", "https://example.com/a?b#c", "urn:x:y",
        "spiffe://EXAMPLE.com/x", "spiffe://cluster.local/ns/foo/../bar", "http://[::1]/", "http://user:pass@example.com:80/",
        "spiffe://cluster.local", "mailto:user@example.com", "http://example.com/%41", "x", "HTTP://example.com", "/a", "a:b:c"]
URI_RULES = ["*", "spiffe://*", "spiffe://cluster.local/*", "https://example.com/*", "urn:x:y", "spiffe://EXAMPLE.com/*",
             "SPIFFE://*", "", "spiffe://cluster.local/ns/foo/sa/sleep", "*/x"]
ADDRESSES = ["10.0.0.1", "192.168.1.1", "::1", "2001:db8::1", "::ffff:10.0.0.1", "0.0.0.0", "010.0.0.1", "10.0.0", "x", "10.0.0.1/8"]
NETWORKS = ["10.0.0.0/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "2001:db8::/32", "10.0.0.1", "10.0.0.1/8", "x"]
OTHERS = ["1.3.6.1.4.1.311.20.2.3;UTF8:user@example.com", "1.2.3.4;UTF8:x", "1.2.3.4;utf8:x", "1.2.3.4;UTF-8:x", "1.2.3.4;x",
          "1.2.3.4;UTF8:", "1.2.3.4;IA5:x", "2.999.1;UTF8:x", "x", "1.2.3.4;UTF8:ü;x", "*;UTF8:*"]
OTHER_RULES = ["*", "1.3.6.1.4.1.311.20.2.3;UTF8:*@example.com", "1.2.3.4;UTF8:*", "1.2.3.4;UTF8:x", "1.2.3.4;utf8:*"]
USAGES = ["DigitalSignature", "ContentCommitment", "KeyEncipherment", "DataEncipherment", "KeyAgreement", "CertSign", "CRLSign",
          "EncipherOnly", "DecipherOnly", "digitalsignature", " KeyAgreement ", "NoSuchUsage", "KeyUsageKeyAgreement"]
EXTENDED = ["Any", "ServerAuth", "ClientAuth", "CodeSigning", "EmailProtection", "IPSECEndSystem", "TimeStamping", "OCSPSigning",
            "MicrosoftServerGatedCrypto", "serverauth", "ExtKeyUsageClientAuth", "NoSuchUsage"]
EXTENDED_OIDS = ["1.3.6.1.5.5.7.3.17", "1.2.3.4.5", "2.5.29.37.0", "1.3.6.1.5.5.7.3.1"]
POLICIES = ["1.3.6.1.4.1.7.8", "2.23.140.1.2.1", '[{"oid":"1.3.6.1.4.1.7.8","notice":"I am a user Notice","cps":"https://example.com"}]',
            '[{"oid":"1.2.3.4"},{"oid":"1.2.3.5","cps":"https://a.example"}]', "nonsense", '[{"oid":"nonsense"}]']
TIMES = ["1h", "3600", 3600, "24h", "720h", "0", "", "30d", "876000h", "-1h", "1m30s", 60, "1", "1.5h", "x"]
MOMENTS = ["2027-01-01T00:00:00Z", "2030-06-01T12:00:00Z", "2051-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2020-01-01T00:00:00Z",
           "2027-01-01T00:00:00+02:00", "2027-01-01", "x", "2027-13-01T00:00:00Z"]
KEYS = ["p256", "p384", "p521", "p224", "rsa2048", "rsa3072", "rsa4096", "rsa1024", "ed25519"]
LIKELY_KEYS = ["p256", "p256", "p256", "p384", "rsa2048", "ed25519"]
TEXTS = ["Example", "Ex, Inc.", "ü", "", "a+b", "x" * 70, " padded ", "Example"]


@functools.cache
def key(name, number):
    """The pool: each kind of key, twice at most."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(name[3:]))
    if name == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p224": ec.SECP224R1, "p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
    return ec.generate_private_key(curves[name]())


def fill_pool():
    for name in KEYS:
        for number in range(1 if name in ("rsa3072", "rsa4096", "rsa1024") else 3):
            key(name, number)


def make(seed, index):
    """The sample with that number: role, request, and what its CSR says."""
    dice = random.Random(f"{seed}:{index}")
    kind = dice.choices(["issue", "sign", "verbatim", "verbatim-role", "issuer-sign"], [3, 6, 1, 2, 2])[0]
    hostile = dice.random() < 0.4
    role = role_of(dice, hostile, kind)
    body = body_of(dice, hostile, kind, role)
    sample = {"kind": kind, "role": role, "body": body}
    if kind == "issuer-sign":
        sample["issuer"] = dice.choice(ISSUERS if dice.random() < 0.1 else ISSUERS[:-1])
    if kind != "issue":
        sample["csr"] = csr_of(dice, hostile, role)
    return sample


def some(dice, values, most=3, hostile=False):
    """A list of some of the values, now and then as the text with commas that clients write too."""
    chosen = [dice.choice(values) for _ in range(dice.randint(0 if hostile else 1, most))]
    return ",".join(chosen) if dice.random() < 0.15 else chosen


def name(dice, hostile):
    return dice.choice(DISGUISES if hostile and dice.random() < 0.6 else NAMES)


def role_of(dice, hostile, kind):
    def chance(share):
        return dice.random() < share

    role = {"key_type": dice.choices(["any", "ec", "rsa", "ed25519", "x"], [6, 3, 1.5 if kind != "issue" else 0.15, 1, 0.03])[0]}
    if kind == "issue" and role["key_type"] == "any":
        role["key_type"] = "ec"
    if chance(0.75):
        role["allowed_domains"] = some(dice, DOMAINS, 4) if hostile else dice.sample(DOMAINS[:5], dice.randint(1, 4))
    if not hostile or chance(0.5):
        # Most roles let most names through, so that there are certificates to compare.
        role |= {"allow_any_name": True, "allow_subdomains": True, "require_cn": chance(0.3)}
    for field, share in [("allow_any_name", 0.15), ("allow_bare_domains", 0.5), ("allow_subdomains", 0.3), ("allow_glob_domains", 0.3),
                         ("allow_localhost", 0.3), ("allow_wildcard_certificates", 0.3), ("enforce_hostnames", 0.35),
                         ("allow_ip_sans", 0.15), ("require_cn", 0.2), ("use_csr_common_name", 0.3), ("use_csr_sans", 0.3),
                         ("server_flag", 0.2), ("client_flag", 0.2), ("code_signing_flag", 0.15), ("email_protection_flag", 0.15),
                         ("basic_constraints_valid_for_non_ca", 0.2), ("no_store", 0.5), ("use_pss", 0.15), ("generate_lease", 0.05),
                         ("allowed_domains_template", 0.1), ("allowed_uri_sans_template", 0.1), ("allow_globs_in_identity_templates", 0.05)]:
        if chance(share):
            role[field] = dice.choice([True, True, False]) if chance(0.9) else dice.choice(["true", "0", "", "x"] if chance(0.03) else ["true", "false", 1])
    for field, values, share in [("allowed_uri_sans", URI_RULES, 0.5), ("allowed_other_sans", OTHER_RULES, 0.4),
                                 ("allowed_ip_sans_cidr", NETWORKS if hostile else NETWORKS[:4], 0.15),
                                 ("allowed_serial_numbers", ["*", "12", "1*", "x"], 0.3), ("allowed_user_ids", ["*", "me", "m*"], 0.3),
                                 ("key_usage", USAGES if hostile else USAGES[:9], 0.25), ("ext_key_usage", EXTENDED, 0.25),
                                 ("ext_key_usage_oids", EXTENDED_OIDS, 0.15), ("cn_validations", ["email", "hostname", "disabled"], 0.015)]:
        if chance(share):
            role[field] = some(dice, values, 4, hostile)
    for field in ("allowed_other_sans", "allowed_uri_sans", "allowed_serial_numbers", "allowed_user_ids"):
        # A star allows everything only where it stands alone.
        if not hostile and chance(0.75):
            role[field] = ["*"]
    if chance(0.08):
        role["cn_validations"] = dice.choice([["email"], ["hostname"], ["disabled"], ["email", "hostname"]])
    if chance(0.12):
        role["policy_identifiers"] = dice.choice(POLICIES if chance(0.15) else POLICIES[:4])
    for field in ("ou", "organization", "country", "locality", "province", "street_address", "postal_code"):
        if chance(0.15):
            role[field] = some(dice, TEXTS if hostile else TEXTS[:3], 3)
    for field, share in [("ttl", 0.25), ("max_ttl", 0.15), ("not_before_duration", 0.15)]:
        if chance(share):
            role[field] = dice.choice(TIMES if chance(0.1) else TIMES[:5])
    for field, values, share in [("not_after", MOMENTS, 0.04), ("not_before", MOMENTS[:5], 0.02),
                                 ("not_after_bound", ["permit", "ttl-limited", "duration", "2028-01-01T00:00:00Z", "forbid"], 0.05),
                                 ("not_before_bound", ["permit", "duration", "forbid", "2028-01-01T00:00:00Z"], 0.05),
                                 ("issuer_ref", ISSUERS[:-1] if chance(0.95) else ISSUERS, 0.3)]:
        if chance(share):
            role[field] = dice.choice(values)
    if chance(0.15):
        bits = {"ec": [224, 256, 384, 521, 0, 255], "rsa": [2048, 3072, 0, 1024], "ed25519": [0, 256]}.get(role["key_type"], [0, 2048])
        role["key_bits"] = dice.choice(bits if kind != "issue" or role["key_type"] != "rsa" else [2048, 0, 1024])
    if chance(0.1):
        role["signature_bits"] = dice.choice([0, 256, 384, 512, 224])
    return role


def body_of(dice, hostile, kind, role):
    def chance(share):
        return dice.random() < share

    body = {}
    if chance(0.7):
        body["common_name"] = name(dice, hostile)
    if chance(0.4):
        body["alt_names"] = ",".join(name(dice, hostile) for _ in range(dice.randint(1, 4)))
    for field, values, share in [("ip_sans", ADDRESSES if hostile else ADDRESSES[:4], 0.25), ("uri_sans", URIS if hostile else URIS[:4], 0.25),
                                 ("other_sans", OTHERS if hostile else OTHERS[:2], 0.15), ("user_ids", ["me", "you", ""], 0.1)]:
        if chance(share):
            body[field] = some(dice, values, 3, hostile)
    if chance(0.12):
        body["serial_number"] = dice.choice(["12", "x", "", "1234"])
    if chance(0.15):
        body["exclude_cn_from_sans"] = dice.choice([True, True, False])
    if chance(0.3):
        body["ttl"] = dice.choice(TIMES if hostile and chance(0.5) else TIMES[:5])
    if chance(0.06):
        body["not_after"] = dice.choice(MOMENTS)
    if chance(0.05):
        body["not_before"] = dice.choice(MOMENTS)
    if chance(0.1):
        body["remove_roots_from_chain"] = True
    if chance(0.15):
        body["format"] = dice.choice(["pem", "der", "pem_bundle", "x"] if hostile else ["der", "pem_bundle"])
    if kind != "issuer-sign" and chance(0.15):
        body["issuer_ref"] = dice.choice(ISSUERS if chance(0.1) else ISSUERS[:-1])
    if kind == "issue":
        if chance(0.1):
            body["private_key_format"] = dice.choice(["der", "pkcs8", "pem", "x"])
        if chance(0.1):
            body |= dice.choice([{"key_type": "ec"}, {"key_type": "ed25519"}, {"key_type": "ec", "key_bits": 384}, {"key_bits": 256}])
    if kind.startswith("verbatim"):
        for field, values, share in [("key_usage", USAGES, 0.3), ("ext_key_usage", EXTENDED, 0.3), ("ext_key_usage_oids", EXTENDED_OIDS, 0.2)]:
            if chance(share):
                body[field] = some(dice, values, 3, hostile)
        if chance(0.2):
            body["basic_constraints_valid_for_non_ca"] = True
        if chance(0.1):
            body["signature_bits"] = dice.choice([0, 256, 384, 512])
        if chance(0.1):
            body["use_pss"] = True
        if kind == "verbatim" and chance(0.2):
            body["role"] = "no-such-role"
    return body


def csr_of(dice, hostile, role):
    kinds = LIKELY_KEYS if not hostile else KEYS
    matching = {"rsa": ["rsa2048"], "ec": ["p256", "p256", "p384"], "ed25519": ["ed25519"]}.get(role["key_type"])
    spec = {"key": dice.choice(matching if matching and dice.random() < 0.8 else kinds), "number": dice.randrange(3)}
    spec["subject"] = []
    if dice.random() < 0.75:
        spec["subject"].append(["2.5.4.3", name(dice, hostile)])
    for oid, share in [("2.5.4.10", 0.25), ("2.5.4.11", 0.2), ("2.5.4.6", 0.15), ("2.5.4.5", 0.1), ("0.9.2342.19200300.100.1.1", 0.1),
                       ("1.2.840.113549.1.9.1", 0.05), ("2.5.4.3", 0.04)]:
        if dice.random() < share:
            spec["subject"].append([oid, dice.choice(["DE", "me", "Example", "12"])])
    if dice.random() < 0.6:
        sans = []
        for _ in range(dice.randint(1, 4)):
            tag = dice.choices(["dns", "email", "uri", "ip", "other"], [5, 1.5, 2, 1, 0.7])[0]
            if tag == "dns":
                sans.append([tag, name(dice, hostile)])
            elif tag == "email":
                sans.append([tag, dice.choice(["user@example.com", "user@a.example.com", "x@evil.org", "USER@EXAMPLE.com", "x"])])
            elif tag == "uri":
                sans.append([tag, dice.choice(URIS if hostile else URIS[:4])])
            elif tag == "ip":
                sans.append([tag, dice.choice(["10.0.0.1", "::1", "192.168.1.1", "2001:db8::1"])])
            else:
                sans.append([tag, dice.choice(["1.3.6.1.4.1.311.20.2.3;user@example.com", "1.2.3.4;x"])])
        spec["sans"] = sans
    if dice.random() < 0.2:
        spec["key_usage"] = dice.choice(["05a0", "0106", "0780", "0000"])
    if dice.random() < 0.2:
        spec["ext_key_usage"] = dice.sample(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.2.3.4.5", "2.5.29.37.0"], dice.randint(1, 3))
    if dice.random() < 0.15:
        spec["basic_constraints"] = dice.choice(["3000", "30030101ff", "30060101ff020100"])
    if dice.random() < 0.08:
        spec["extension"] = ["1.2.3.4.5.6", "0401ff", dice.random() < 0.5]
    return spec


def build_csr(spec):
    """The CSR in PEM. Names are written as they are: the libraries would mend them."""
    attributes = []
    for oid, text in spec["subject"]:
        attributes.append(x509.NameAttribute(x509.ObjectIdentifier(oid), text or " ", _validate=False))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    for oid, critical, value in extensions(spec):
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    secret = key(spec["key"], 0 if spec["key"] in ("rsa3072", "rsa4096", "rsa1024") else spec["number"])
    signed = builder.sign(secret, None if spec["key"] == "ed25519" else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def extensions(spec):
    if "sans" in spec:
        yield "2.5.29.17", False, der.element(0x30, *map(general_name, spec["sans"]))
    if "key_usage" in spec:
        yield "2.5.29.15", True, der.element(3, bytes.fromhex(spec["key_usage"]))
    if "ext_key_usage" in spec:
        yield "2.5.29.37", False, der.element(0x30, *map(der.oid, spec["ext_key_usage"]))
    if "basic_constraints" in spec:
        yield "2.5.29.19", True, bytes.fromhex(spec["basic_constraints"])
    if "extension" in spec:
        oid, value, critical = spec["extension"]
        yield oid, critical, bytes.fromhex(value)


def general_name(san):
    kind, text = san
    if kind == "ip":
        return der.element(0x87, ipaddress.ip_address(text).packed)
    if kind == "other":
        oid, _, value = text.partition(";")
        return der.element(0xA0, der.oid(oid), der.element(0xA0, der.element(0x0C, value.encode())))
    return der.element({"email": 0x81, "dns": 0x82, "uri": 0x86}[kind], text.encode())


def path(mount, role, sample):
    return {
        "issue": f"{mount}/issue/{role}",
        "sign": f"{mount}/sign/{role}",
        "verbatim": f"{mount}/sign-verbatim",
        "verbatim-role": f"{mount}/sign-verbatim/{role}",
        "issuer-sign": f"{mount}/issuer/{sample.get('issuer')}/sign/{role}",
    }[sample["kind"]]


def smaller(sample):
    """Samples with one thing less."""
    def without(container, name):
        copy = dict(container)
        del copy[name]
        return copy

    for part in ("role", "body"):
        for field in sample[part]:
            if field != "key_type":
                yield sample | {part: without(sample[part], field)}
            value = sample[part][field]
            if isinstance(value, list) and len(value) > 1:
                for index in range(len(value)):
                    yield sample | {part: sample[part] | {field: value[:index] + value[index + 1:]}}
            if field == "alt_names" and "," in value:
                names = value.split(",")
                for index in range(len(names)):
                    yield sample | {part: sample[part] | {field: ",".join(names[:index] + names[index + 1:])}}
    for field in sample.get("csr", {}):
        if field in ("key", "number"):
            continue
        value = sample["csr"][field]
        if field != "subject":
            yield sample | {"csr": without(sample["csr"], field)}
        if isinstance(value, list) and field in ("subject", "sans"):
            for index in range(len(value)):
                if len(value) > 1 or field == "subject":
                    yield sample | {"csr": sample["csr"] | {field: value[:index] + value[index + 1:]}}
