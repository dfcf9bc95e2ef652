x = '''open
np.load(f'a{b}.npz'); '\