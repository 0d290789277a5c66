def ours(): return {}
