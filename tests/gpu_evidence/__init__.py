"""What a CUDA machine shows of this project, in stages of a few minutes: `python -m tests.gpu_evidence --out FILE`."""
