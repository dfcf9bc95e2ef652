d = np.load(os.path.join("a", "b.npz"))["y"]
model.save("out" / "m")
torch.save(n, "n.pt")
