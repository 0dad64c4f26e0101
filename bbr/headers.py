"""Names of the headers that routes and endpoint pickers go by."""

from typing import Final

MODEL_HEADER: Final = "X-Gateway-Model-Name"
BASE_MODEL_HEADER: Final = "X-Gateway-Base-Model-Name"

# Where an endpoint picker says which model server it chose. A client that sets it itself could aim a request at any
# address, if a picker fails open.
DESTINATION_HEADER: Final = "x-gateway-destination-endpoint"
