"""Export a finished model to ONNX, check it against PyTorch, and measure what it gains."""

from retort.commands import export

if __name__ == "__main__":
    export.main()
