"""A finished policy leaves Segue: as files that a robot runs without it, or to the Hugging Face Hub.

`trace` makes one small program of any policy; `numeric` runs it with NumPy alone and `onnx_model` writes it for ONNX.
`export` writes, and compares each file with the policy that it came from.  `hub` sends and fetches bundles.
"""
