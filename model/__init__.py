"""The pose network, and everything that training and serving must share bit for bit.

Dimension letters used in every shape comment of this package:

    B  persons (crops) in a batch      K  keypoints (17 of COCO, see `skeleton`)
    C  channels                        A  attention heads
    H  rows, W columns of a map        N  tokens, N = H * W
    D  width of one attention head

Frames. Each frame's (0, 0) is the *centre* of its top-left pixel, x to the right, y down:

    image    pixels of the upright photograph
    crop     pixels of the network's input (256 x 192 by default)
    heatmap  pixels of the network's output, `PoseConfig.heatmap_stride` crop pixels apart

What this package does not know: files other than checkpoints, threads, environment variables, protocols.
"""
