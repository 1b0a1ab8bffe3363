"""Make a smaller tokenizer for a student, and see what it costs: trained on text, or the teacher's own, trimmed."""

from retort.commands import vocabulary

if __name__ == "__main__":
    vocabulary.main()
