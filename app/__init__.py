"""The control plane: accepts jobs, keeps their records, hands them to workers.

Never imports torch.
"""
