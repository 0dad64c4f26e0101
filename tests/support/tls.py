"""Two ends of TLS, without a socket."""

import ssl


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> tuple[ssl.SSLObject, ...]:
    """Join a server and a client; return both once they have shaken hands."""
    bios = [ssl.MemoryBIO() for _ in range(4)]
    ends = server.wrap_bio(bios[0], bios[1], server_side=True), client.wrap_bio(bios[2], bios[3], server_hostname=name)
    done = [False, False]
    while not all(done):
        for index, end in enumerate(ends):
            if not done[index]:
                try:
                    end.do_handshake()
                    done[index] = True
                except ssl.SSLWantReadError:
                    pass
        bios[0].write(bios[3].read())
        bios[2].write(bios[1].read())
    return ends
