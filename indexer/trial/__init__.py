"""What runs in a process of its own, because FAISS may end it; nothing imports it."""
