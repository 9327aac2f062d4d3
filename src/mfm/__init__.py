"""Masked frequency modeling: pretraining, finetuning and an honest comparison of arms.

Source of the method: Xie et al., "Masked Frequency Modeling for Self-Supervised Visual
Pre-Training", ICLR 2023, arXiv 2206.07706.
"""

__version__ = "0.1.0"
