import ssl

import pytest

from bbr.sources.server_tls import MAX_CA_BYTES, AuthorityError, ServerTls, why_not
from bench.harness.certificates import Authority
from tests.support.loops import in_loop

PEM = Authority().root_pem


def test_the_name_counts_before_the_address():
    assert ServerTls().name_of("10.0.0.1") == "10.0.0.1"
    assert ServerTls(name="vllm").name_of("10.0.0.1") == "vllm"


@in_loop
async def test_without_a_file_the_system_s_authorities_are_trusted_and_certificates_verified():
    tls = ServerTls()
    context = await tls.context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert await tls.context() is context


def test_a_file_s_authorities_are_trusted_alone_and_followed(tmp_path):
    path = tmp_path / "ca.crt"
    path.write_bytes(PEM)

    @in_loop
    async def test():
        tls = ServerTls(path)
        context = await tls.context()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert len(context.get_ca_certs()) == 1
        assert await tls.context() is context
        path.write_bytes(PEM + Authority().root_pem)
        assert len((await tls.context()).get_ca_certs()) == 2

    test()


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (None, "No such file"),
        (b"", "it holds no certificate that can be read"),
        (b"no PEM", "it holds no certificate that can be read"),
        (PEM.replace(b"M", b"N"), "it holds no certificate that can be read"),
        (b"\xff", "it is not PEM"),
        (PEM + b"\n" * MAX_CA_BYTES, "larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_each_time(tmp_path, octets, why):
    path = tmp_path / "ca.crt"
    if octets is not None:
        path.write_bytes(octets)

    @in_loop
    async def test():
        tls = ServerTls(path)
        for _ in range(2):
            with pytest.raises(AuthorityError, match=why) as refused:
                await tls.context()
            assert str(refused.value).startswith(f"--discover-ca: {path}: ")
        path.write_bytes(PEM)
        assert len((await tls.context()).get_ca_certs()) == 1

    test()


def test_openssl_s_words_are_a_sentence():
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    assert why_not(error) == "no TLS with it: no reason given"
    error.reason = "WRONG_VERSION_NUMBER"
    assert why_not(error) == "no TLS with it: wrong version number"
    error = ssl.SSLCertVerificationError(1, "text")
    error.verify_message = "self-signed certificate"
    assert why_not(error) == "its certificate is not accepted: self-signed certificate"
