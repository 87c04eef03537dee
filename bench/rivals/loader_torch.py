"""torchvision's ImageFolder + DataLoader with the pre-training augmentation; one timed epoch per line of stdin."""
import json
import sys
import time

import torch
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

folder, size, batch, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def main():
    torch.set_num_threads(1)
    augment = T.Compose([
        T.RandomResizedCrop(size, scale=(0.67, 1.0), ratio=(3 / 4, 4 / 3)),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])
    loader = torch.utils.data.DataLoader(ImageFolder(folder, augment), batch_size=batch, shuffle=True, drop_last=True,
                                         num_workers=workers, persistent_workers=workers > 0)
    for _ in sys.stdin:
        start, count = time.perf_counter(), 0
        for images, _ in loader:
            count += images.shape[0]
        print(json.dumps({"images": count, "seconds": time.perf_counter() - start}), flush=True)


main()
