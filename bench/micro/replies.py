"""What a body answer costs: by hand (bbr.exchange.replies) against protobuf. Run: python -m bench.micro.replies"""

import statistics
import timeit

from bbr.exchange import replies
from bbr.pb.ext_proc_pb2 import BodyMutation, BodyResponse, CommonResponse, ProcessingResponse, StreamedBodyResponse

ROUNDS = 9
CALLS = 5_000


def by_protobuf(octets: bytes) -> bytes:
    """Encode one request_body answer with the generated classes."""
    mutation = BodyMutation(streamed_response=StreamedBodyResponse(body=octets, end_of_stream=True))
    response = BodyResponse(response=CommonResponse(body_mutation=mutation))
    return ProcessingResponse(request_body=response).SerializeToString()


def by_hand(octets: bytes) -> list[bytes]:
    """Assemble the same."""
    return replies.request_body(octets, end_of_stream=True)


def main() -> None:
    """Time both, alternating, and print medians in microseconds with their ratio."""
    print(f"{'bytes':>8} {'protobuf us':>12} {'by hand us':>12} {'ratio':>7}")
    for size in (100, 1_000, 10_000, 62_000):
        octets = bytes(size)
        assert by_hand(octets) == [by_protobuf(octets)]
        slow, fast = [], []
        for _ in range(ROUNDS):
            slow.append(timeit.timeit(lambda: by_protobuf(octets), number=CALLS) / CALLS * 1e6)  # noqa: B023
            fast.append(timeit.timeit(lambda: by_hand(octets), number=CALLS) / CALLS * 1e6)  # noqa: B023
        ratio = statistics.median(slow) / statistics.median(fast)
        print(f"{size:>8} {statistics.median(slow):>12.2f} {statistics.median(fast):>12.2f} {ratio:>7.1f}")


if __name__ == "__main__":
    main()
