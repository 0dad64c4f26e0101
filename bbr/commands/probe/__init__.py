"""`bbr probe`: ask a running router as a gateway and as a health checker would."""
